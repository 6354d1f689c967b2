"""Errors of the command `bitnexus` are one line, whatever it is given; and no line shows a password."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from actors.settings import ConfigError, load, show
from api.cli import doctor, probe
from api.cli.main import main
from api.security.tokens import Keyring
from tests.operators.test_cli import bitnexus, one_line
from tests.support.server import PASSWORD as SIGN_IN
from tests.support.server import PATIENCE, ROOT, Server, environment, wait_until

PASSWORD = "p@ss/w:d?%40"


@pytest.mark.parametrize(
    "url", ["foo", "http://", "ftp://host", "http://[", "http://host:99999", "http://host/admin"]
)
@pytest.mark.parametrize("command", ["tree", "demo"])
def test_a_url_that_is_none(command: str, url: str) -> None:
    assert one_line(bitnexus(command, "--url", url)).startswith(f"--url {url}: expected a URL")


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "61", "x"])
def test_seconds_that_are_none(value: str) -> None:
    done = bitnexus("trace", "repo", "--seconds", value)
    assert done.returncode == 2 and "argument --seconds: invalid seconds value" in done.stderr
    assert "at most 60" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("demo", "--count", "0"), "expected a whole number, 1 or more"),
        (("demo", "--count", "x"), "expected a whole number, 1 or more"),
        (("ps", "--sort", "banana"), "choose from"),
        (("ps", "--limit", "0"), "from 1 to 500"),
        (("ps", "--limit", "501"), "from 1 to 500"),
        (("tree", "--limit", "-1"), "from 0 to 1000"),
        (("trace", "repo", "-n", "0"), "from 1 to 1000"),
        (("trace", "repo", "-n", "1e3"), "from 1 to 1000"),
        (("drain", "--per-second", "0"), "1 or more"),
        (("serve", "--nodes", "65"), "from 1 to 64"),
        (("serve", "--nodes", "\u0661"), "from 1 to 64"),
        (("sreve",), "'serve'"),
        (("user", "remove"), "'create'"),
        (("kill",), "pid"),
        ((), "COMMAND"),
        (("kill", "\udcff"), "UTF-8"),
        (("migrate", "--dry-run"), "--dry-run"),
    ],
)
def test_arguments_that_are_none_say_on_one_line_what_is_allowed(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    line = capsys.readouterr().err
    assert ended.value.code == 2 and said in line and line.count("\n") == 1 and line.startswith("bitnexus")


@pytest.mark.parametrize("command", ["ps", "demo"])
def test_a_password_is_read_from_standard_input(server: Server, command: str) -> None:
    """What stands on a command line every user of the machine can see."""
    admin = server.user("admin")
    signed_in = ("--url", server.url, "--email", admin.email, "--password", "-")
    assert bitnexus(command, *signed_in, typed=f"{SIGN_IN}\n").returncode == 0
    said = one_line(bitnexus(command, *signed_in, typed="wrong\n"))
    assert said.endswith("The e-mail address or the password is wrong")


def test_a_terminal_that_lacks_the_characters_of_a_tree(server: Server) -> None:
    admin = server.user("admin")
    signed_in = ("--url", server.url, "--email", admin.email, "--password", "-")
    said = bitnexus("tree", *signed_in, typed=f"{SIGN_IN}\n", PYTHONIOENCODING="latin-1")
    assert said.returncode == 0 and "db_writer" in said.stdout


def test_an_error_on_a_terminal_that_lacks_its_characters_still_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(said, "latin-1", "backslashreplace"))
    with pytest.raises(SystemExit):
        main(["kiel\u0142"])
    sys.stderr.flush()
    assert b"kiel\\u0142" in said.getvalue()


def test_a_full_disk_under_the_output() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", "config"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    assert done.returncode == 1 and done.stderr == "bitnexus: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("command", ["tree", "demo"])
def test_a_server_that_hangs_is_not_one_that_is_down(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probe, "PROBES", 2)
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert main((command, "--email", "a@b.cc", "--password", "x", "--url", url)) == 1
    assert (
        capsys.readouterr().err
        == f"bitnexus: the server at {url} has not answered within 0.2 s; it hangs, or is out of reach\n"
    )


@pytest.mark.parametrize("command", ["tree", "demo"])
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n\xff\xfe",
        b"HTTP/1.1 302 Found\r\nlocation: /health\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{",
    ],
)
def test_another_program_where_a_server_should_be(
    command: str, answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(other: socket.socket) -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                with other.accept()[0] as client:
                    while client.recv(65536):
                        client.sendall(answer)
                        if b"302" not in answer:
                            break

    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=serve, args=(other,), daemon=True).start()
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        assert main((command, "--email", "a@b.cc", "--password", "x", "--url", url)) == 1
    assert (
        capsys.readouterr().err == f"bitnexus: what answers at {url} is no BitNexus; is the address right?\n"
    )


def test_doctor_tells_a_server_that_hangs_from_a_taken_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = asyncio.run(doctor._port(load({"PORT": str(silent.getsockname()[1])})))
    assert not found.ok and "has not answered within 0.2 s" in found.text and "restart it" in found.advice


def test_closed_standard_streams_become_no_sockets() -> None:
    program = (
        "import os, sys; from api.cli.main import open_standard_streams as opened; opened(); "
        "print('x', file=sys.stderr); sys.exit(os.open('/', 0) <= 2)"
    )
    command = f'exec "$0" -c "{program}" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=ROOT, timeout=PATIENCE)
    assert done.returncode == 0


def test_a_server_serves_though_its_output_cannot_be_written() -> None:
    program = "from api.cli.serve import announce; announce('x')"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    assert (
        done.returncode == 0 and done.stderr == "standard output can't be written: No space left on device\n"
    )


def test_ctrl_c_in_psql_is_for_psql(server: Server) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "api.cli", "psql", "-c", "SELECT pg_sleep(600)"],
        cwd=ROOT,
        env=environment(DATABASE_URL=server.database),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as psql:
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'"
        )
        wait_until(lambda: server.fetchval(query) == 1)
        os.killpg(psql.pid, signal.SIGINT)
        assert "canceling statement due to user request" in psql.communicate(timeout=PATIENCE)[1]
        assert psql.returncode == 1


def test_the_version() -> None:
    assert bitnexus("--version").stdout.startswith("bitnexus ")


def test_a_worker_beside_its_supervisor_toml_is_found(tmp_path: Path) -> None:
    (tmp_path / "beside_worker.py").write_text(
        "from runtime.otp.gen_server import GenServer\n\nclass Beside(GenServer):\n    def init(self):\n        pass\n"
    )
    tree = tmp_path / "supervisor.toml"
    tree.write_text(
        '[supervisor.root]\nstrategy = "one_for_one"\nintensity = 1\nperiod = 1\nchildren = ["beside"]\n\n'
        '[worker.beside]\nstart = "beside_worker:Beside"\nrestart = "permanent"\nshutdown = 1000\n'
    )
    from api.cli.serve import _add_to_path
    from runtime.otp import tree_config

    _add_to_path(tree)
    assert tree_config.load(tree)


def test_the_root_is_neither_killed_nor_suspended(server: Server) -> None:
    admin = server.user("admin")
    for action in ("kill", "suspend"):
        assert admin.client.post(f"/admin/processes/root/{action}").status_code == 409
    assert admin.client.get("/health").status_code == 200


@pytest.fixture(scope="module")
def reader(server: Server) -> str:
    """The URL of a role that may only read, with a password that a URL must escape."""
    server.execute("DROP ROLE IF EXISTS reader")
    server.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
    head, _, tail = server.database.partition("://")[2].partition("@")
    assert head
    return f"postgresql://reader:{quote(PASSWORD, safe='')}@{tail}"


def test_psql_signs_in_with_a_password_of_any_characters(reader: str) -> None:
    done = bitnexus("psql", "-c", "SELECT current_user", DATABASE_URL=reader)
    assert done.returncode == 0 and "reader" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate",),
        ("ledger", "verify"),
        ("user", "create", "a@example.com", "--password", "a long password"),
    ],
)
def test_what_the_database_refuses_is_one_line(reader: str, arguments: tuple[str, ...]) -> None:
    assert one_line(bitnexus(*arguments, DATABASE_URL=reader)).startswith(
        "the database refused this: permission denied"
    )


def test_passwords_of_services_are_masked() -> None:
    url = "http://ada:hunter2@127.0.0.1:9"
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
    assert "hunter2" not in "".join(line.value for line in show(load(given)))


@pytest.mark.parametrize("given", [{"GO_API_URL": "{}"}, {"SERVICES": "b={}"}])
def test_a_service_with_a_password_is_refused_and_the_password_not_shown(given: dict[str, str]) -> None:
    given = {name: value.format("http://ada:hunter2@127.0.0.1:9") for name, value in given.items()}
    with pytest.raises(ConfigError) as refused:
        load(given)
    assert "http://ada:********@127.0.0.1:9" in str(refused.value) and "hunter2" not in str(refused.value)


def test_a_previous_secret_longer_than_a_file_name(tmp_path: Path) -> None:
    ring = Keyring(load({"DATA_DIR": str(tmp_path), "JWT_PREVIOUS_KEYS": "x" * 5000}))
    assert len(ring.shared) == 2
