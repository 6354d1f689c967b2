"""What a crash campaign once found, seen on any version: `python -m tests.campaign.findings [TREE [PYTHON [LINE...]]]`.

TREE is a checkout (this one by default), PYTHON what runs it. Prints one line a finding with what was seen; judges nothing. The
database, its proxy and its disk are of this checkout. docs/campaign.md has the lines of two versions side by side.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import websockets

from actors.storage.postgres.cluster import SUPERUSER, DatabaseCluster
from tests.support.database import UNSAFE_BUT_FAST
from tests.support.disk import Disk
from tests.support.proxy import Proxy
from tests.support.server import PASSWORD, ROOT, SECRET, environment

NEW = {"amount": "1.00", "currency": "EUR"}
OUTAGE = 8.0  # seconds
PATIENCE = 30.0
HELD_SECONDS = 10.0
LOOKS = 100  # for each row
FOREIGN = "INSERT INTO transactions (user_id, amount, currency) VALUES ($1, 2.00, 'EUR')"
HELD = """
SELECT EXISTS (SELECT FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE a.datname = current_database()
               AND a.state = 'idle in transaction' AND l.relation = 'ledger_head'::regclass)
"""
LINE = re.compile(r"^\d{4}-\d\d-\d\d .*?(WARNING|ERROR|INFO) ")

CRASHING = """
try:
    from runtime.otp import erlang
    from runtime.otp.gen_server import GenServer
except ImportError:  # before there were rooms
    from runtime import erlang
    from runtime.gen_server import GenServer

class Crashing(GenServer):
    def init(self):
        erlang.send_after(60, erlang.self_(), "crash")

    def handle_info(self, message):
        raise ValueError("out of cheese")
"""


class Way(Proxy):
    """A proxy on a port before the database of `direct`, whose Unix socket it dials; `url` leads through it."""

    url: str

    def __init__(self, direct: str) -> None:
        parts = urlsplit(direct)
        query = parse_qs(parts.query)
        behind = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        super().__init__(lambda: asyncio.open_unix_connection(behind))
        self._parts = parts

    async def begin(self) -> None:
        """Listens."""
        user = self._parts.netloc.rpartition("@")[0] or "bitnexus"
        self.url = f"postgresql://{user}@127.0.0.1:{await self.listen()}{self._parts.path}"


@asynccontextmanager
async def tcp(direct: str) -> AsyncIterator[Way]:
    """A running one."""
    way = Way(direct)
    await way.begin()
    try:
        yield way
    finally:
        await way.stop()


@dataclass
class Version:
    """A checkout, and how to run it."""

    tree: Path
    python: str

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """One command of its CLI, to its end."""
        return subprocess.run(
            [self.python, "-m", "api.cli", *arguments],
            cwd=self.tree, env=environment(**variables), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


@dataclass
class Running:
    """A server, what it says, and a user of it."""

    process: subprocess.Popen[str]
    variables: dict[str, str]
    lines: list[str] = field(default_factory=list)
    url: str = ""
    user: str = ""
    client: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)

    async def post(self, timeout: float = PATIENCE) -> tuple[str, float]:
        """The code of the answer (201, or what its error says), and its seconds."""
        began = time.monotonic()
        try:
            answer = await self.client.post("/api/v1/transactions", json=NEW, timeout=timeout)
        except httpx.HTTPError as error:
            return type(error).__name__, time.monotonic() - began
        code = "201" if answer.status_code == 201 else answer.json()["error"]["code"]
        return code, time.monotonic() - began

    async def back(self) -> str:
        """How long until a transaction is recorded."""
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE:
            if self.process.poll() is not None:
                return f"server ended, exit code {self.process.returncode}: {self.lines[-1][:120]}"
            if (await self.post(5.0))[0] == "201":
                return f"writes again after {time.monotonic() - began:.1f} s"
            await asyncio.sleep(0.05)
        return f"no write within {PATIENCE:.0f} s"

    async def ready(self) -> int:
        """The status of readiness."""
        return (await self.client.get("/api/v1/health/ready", timeout=10)).status_code

    def said(self, *parts: str) -> int:
        """How many lines hold one of these."""
        return sum(any(part in line for part in parts) for line in self.lines)

    async def stop(self) -> None:
        """Ends it."""
        await self.client.aclose()
        self.process.kill()
        await asyncio.to_thread(self.process.wait)


class Findings:
    """One method a line."""

    def __init__(self, version: Version, cluster: DatabaseCluster, folder: Path) -> None:
        self.version, self.cluster, self.folder = version, cluster, folder
        self.count = 0

    async def database(self) -> str:
        """The URL of a new one."""
        self.count += 1
        admin = await asyncpg.connect(self.cluster.url("postgres", SUPERUSER))
        await admin.execute(f"CREATE DATABASE finding_{self.count} OWNER bitnexus")
        await admin.close()
        return self.cluster.url(f"finding_{self.count}")

    async def start(
        self, url: str | None, direct: str | None = None, *arguments: str, **more: str
    ) -> Running:
        """A server on this database, and a signed-in user; None: the embedded one."""
        self.count += 1
        variables = {"DATA_DIR": str(self.folder / f"data-{self.count}"), "SECRET_KEY_BASE": SECRET} | more
        if url is not None:
            variables["DATABASE_URL"] = url
        process = await asyncio.to_thread(
            subprocess.Popen,
            [self.version.python, "-m", "api.cli", "serve", *arguments],
            cwd=self.version.tree, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        running = Running(process, variables)
        threading.Thread(target=_read, args=(running,), daemon=True).start()
        while not running.url and process.poll() is None:
            await asyncio.sleep(0.05)
        if not running.url:
            return running
        own = variables | ({"DATABASE_URL": direct} if direct else {})
        create = ("user", "create", f"u{self.count}@example.com", "--password", PASSWORD)
        made = await asyncio.to_thread(self.version.command, *create, **own)
        running.user = json.loads(made.stdout)["id"]
        running.client = httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=PATIENCE)
        credentials = {"email": f"u{self.count}@example.com", "password": PASSWORD}
        answer = await running.client.post("/api/v1/auth/login", json=credentials)
        running.client.headers["authorization"] = f"Bearer {answer.json()['token']}"
        await running.post()
        return running

    async def behind(self, way: Way, direct: str, **more: str) -> Running:
        """A server whose database is behind a proxy."""
        return await self.start(way.url, direct, **more)

    async def e1(self) -> str:
        """A proxy accepts and closes."""
        direct = await self.database()
        async with tcp(direct) as way:
            server = await self.behind(way, direct)
            way.mode = "close"
            await asyncio.sleep(OUTAGE)
            way.mode = "pass"
            seen = await server.back()
            await server.stop()
        return seen

    async def e2(self) -> str:
        """The link of the server that holds the ledger's head goes half-open, while it takes in rows of another program."""
        direct = await self.database()
        async with tcp(direct) as way:
            one, other = await self.behind(way, direct), await self.start(direct)
            other.process.send_signal(signal.SIGSTOP)  # so that the rows are not its own to take in
            way.mode = "slow"  # what takes several round trips holds the head most of the time
            held = await self._until_held(direct, one.user)
            way.mode = "silent"
            other.process.send_signal(signal.SIGCONT)
            seen = await other.back()
            states = {await one.ready(), await other.ready()}
            await one.stop()
            await other.stop()
        holds = "the head" if held else "nothing"
        return f"{holds} is held between two round trips; the other server {seen}; readiness {states} then"

    async def _until_held(self, direct: str, user: str) -> bool:
        """Writes rows until a session holds a lock without a statement; False if none does in HELD_SECONDS."""
        program = await asyncpg.connect(direct)
        watch = await asyncpg.connect(direct)
        try:
            until = time.monotonic() + HELD_SECONDS
            while time.monotonic() < until:
                await program.execute(FOREIGN, user)
                for _ in range(LOOKS):
                    if await watch.fetchval(HELD):
                        return True
                    await asyncio.sleep(0.005)
            return False
        finally:
            await program.close()
            await watch.close()

    async def e3(self) -> str:
        """The disk under the embedded database is full, and PostgreSQL has to start on it."""
        seen: list[str] = []
        for number in range(5):
            disk = Disk(self.folder / f"disk-{number}")
            try:
                server = await self.start(None, None, DATA_DIR=str(disk.folder / "data"))
                data = next((disk.folder / "data").rglob("PG_VERSION")).parent
                disk.fill(data)
                postmaster = int(next(disk.folder.rglob("postmaster.pid")).read_text().split()[0])
                os.kill(postmaster, 9)
                until = time.monotonic() + OUTAGE
                while time.monotonic() < until:
                    await server.post(2.0)
                    await asyncio.sleep(0.05)
                disk.free(data)
                errors = server.said(" ERROR ")
                seen.append(f"{await server.back()} ({errors} ERROR lines)")
                server.process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(server.process.wait, 15)
                await server.stop()
            finally:
                disk.close()
        kind = "a tmpfs" if disk.mounted else "a limit of file size"
        return f"{kind}, 5 times: " + "; ".join(seen)

    async def e5(self) -> str:
        """The answer to a write is lost while nothing else is going on; a channel waits for its event. E7: its code."""
        direct = await self.database()
        async with tcp(direct) as way:
            server = await self.behind(way, direct)
            token = server.client.headers["authorization"].split()[1]
            address = server.url.replace("http", "ws")
            async with websockets.connect(f"{address}/socket/websocket?vsn=2.0.0&token={token}") as channel:
                await channel.send(json.dumps(["1", "1", f"transaction:{server.user}", "phx_join", {}]))
                await channel.recv()
                way.mode = "deaf"
                code, took = await server.post()
                way.cut()
                way.mode = "pass"
                began = time.monotonic()
                try:
                    async with asyncio.timeout(PATIENCE):
                        while json.loads(await channel.recv())[3] != "new_transaction":
                            pass
                    told = f"its channel is told after {time.monotonic() - began:.1f} s"
                except TimeoutError:
                    told = f"its channel is not told within {PATIENCE:.0f} s"
            written = await self.rows(direct)
            await server.stop()
        return f"answered {code} after {took:.1f} s, {written - 1} row written; {told}"

    async def e6(self) -> str:
        """A table is locked from outside for 20 s."""
        direct = await self.database()
        server = await self.start(direct)
        holder = await asyncpg.connect(direct)
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("LOCK TABLE transactions")
        answers: list[str] = []
        until = time.monotonic() + 20
        most = 0
        while time.monotonic() < until:
            answers += [code for code, _ in await asyncio.gather(*(server.post(12.0) for _ in range(3)))]
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            most = max(most, await holder.fetchval(waiting))
        before = answers.count("201")
        await transaction.rollback()
        await holder.close()
        await asyncio.sleep(3)
        rows = await self.rows(direct) - 1 - before
        await server.stop()
        kinds = {code: answers.count(code) for code in sorted(set(answers))}
        return f"up to {most} statements wait; answers {kinds}; {rows} of them written afterwards"

    async def e8(self) -> str:
        """token_expiry crashes 60 ms after each start."""
        folder = self.folder / "e8"
        folder.mkdir()
        (folder / "crashing.py").write_text(CRASHING)
        text = (self.version.tree / "supervisor.toml").read_text()
        (folder / "supervisor.toml").write_text(
            text.replace("actors.token_expiry:TokenExpiry", "crashing:Crashing")
        )
        path = str(folder / "supervisor.toml")
        server = await self.start(await self.database(), None, "--tree", path, PYTHONPATH=str(folder))
        began = time.monotonic()
        while server.process.poll() is None and time.monotonic() - began < 20:
            await asyncio.sleep(0.1)
        crashes = server.said("out of cheese")
        if server.process.poll() is not None:
            return f"ended after {time.monotonic() - began:.1f} s: {server.lines[-1][:140]}"
        served = (await server.post())[0]
        await server.stop()
        return f"after 20 s it runs ({crashes} lines of crashes), a POST is answered {served}"

    async def e9(self) -> str:
        """The database is read-only."""
        direct = await self.database()
        server = await self.start(direct)
        name = direct.split("?")[0].rpartition("/")[2]
        admin = await asyncpg.connect(self.cluster.url("postgres", SUPERUSER))
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        until = time.monotonic() + 10
        codes: set[str] = set()
        while time.monotonic() < until:
            codes.add((await server.post())[0])
            await asyncio.sleep(0.02)
        status = await server.ready()
        port = server.url.rpartition(":")[2]
        told = await asyncio.to_thread(self.version.command, "doctor", **(server.variables | {"PORT": port}))
        await admin.close()
        await server.stop()
        errors = server.said(" ERROR ")
        return f"ready {status}, doctor's exit code {told.returncode}; answers {sorted(codes)}; {errors} ERROR lines"

    async def e10(self) -> str:
        """All links of the pool are half-open."""
        direct = await self.database()
        async with tcp(direct) as way:
            server = await self.behind(way, direct)
            await asyncio.gather(*(server.client.get("/api/v1/transactions") for _ in range(20)))
            way.mode = "silent"
            began = time.monotonic()
            answers = await asyncio.gather(*(server.client.get("/api/v1/transactions") for _ in range(20)))
            took = time.monotonic() - began
            way.mode = "pass"
            await server.stop()
        return f"the last of 20 is answered {answers[0].status_code} after {took:.1f} s"

    async def e11(self) -> str:
        """A service that is away is called, a path that is not there, a token that is wrong."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        more = {"GO_API_URL": f"http://127.0.0.1:{port}", "ACCESS_LOG": "errors"}
        server = await self.start(await self.database(), None, **more)
        for _ in range(8):
            await server.client.get("/api/v1/services/go/x")
        await server.client.get("/nothing/here")
        await server.client.get("/api/v1/auth/me", headers={"authorization": "Bearer wrong"})
        await asyncio.sleep(1)
        seen = {
            "of 503": server.said("answered 503"), "of the breaker": server.said("breaker of go"),
            "of 404": server.said("/nothing/here 404"), "of 401": server.said("/api/v1/auth/me 401"),
        }  # fmt: skip
        await server.stop()
        return f"lines {seen}"

    async def rows(self, direct: str) -> int:
        """How many transactions there are."""
        connection = await asyncpg.connect(direct)
        try:
            return await connection.fetchval("SELECT count(*) FROM transactions")
        finally:
            await connection.close()


def _read(running: Running) -> None:
    assert running.process.stdout is not None
    for line in running.process.stdout:
        running.lines.append(line.rstrip())
        if (found := re.search(r"BitNexus serves on (\S+)", line)) is not None:
            running.url = found[1]


async def look(version: Version, chosen: list[str]) -> None:
    """Prints each."""
    with tempfile.TemporaryDirectory(prefix="bitnexus-findings-") as name:
        folder = Path(name)
        os.chmod(folder, 0o755)
        cluster = DatabaseCluster.at(folder / "postgres", UNSAFE_BUT_FAST)
        await cluster.start()
        try:
            findings = Findings(version, cluster, folder)
            for each in chosen or [name for name in vars(Findings) if re.fullmatch(r"e\d+", name)]:
                one: Callable[[], Awaitable[Any]] = getattr(findings, each)
                try:
                    print(f"{each.upper()}: {await one()}", flush=True)
                except Exception as error:
                    print(f"{each.upper()}: could not be seen: {error!r}", flush=True)
        finally:
            await asyncio.to_thread(cluster.stop_blocking)


def main(arguments: list[str]) -> None:
    """The command."""
    tree = Path(arguments[0]) if arguments else ROOT
    python = arguments[1] if len(arguments) > 1 else sys.executable
    asyncio.run(look(Version(tree, python), arguments[2:]))


if __name__ == "__main__":
    main(sys.argv[1:])
