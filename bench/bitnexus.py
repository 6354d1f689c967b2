"""`bitnexus serve` of a commit, as a process to be measured; and the tokens of its users."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import jwt

from bench import http_load
from bench.process import Clock, Program, memory, tree
from bench.revision import ROOT, Revision
from bench.run import Lacks

PASSWORD: Final = "correct horse battery staple"  # noqa: S105
EMAIL: Final = "bench@example.com"
SECRET: Final = "a key of this benchmark alone, forty bytes long"  # noqa: S105
PATIENCE: Final = 60.0  # seconds for an end; only a failure takes all of it
USER_MADE: Final = "bench-user"  # a file that marks that the user exists
TOKEN_SECONDS: Final = 3600


class BitNexus:
    """A `bitnexus serve` of a commit, its embedded PostgreSQL and one user, in a folder of its own; a context manager.

    `module` is what `python -m` runs for it, `variables` are more of its environment. With a `folder` its data is kept there, and
    found again. Raises Lacks when it does not start.
    """

    def __init__(
        self, revision: Revision, module: str = "api.cli", folder: Path | None = None, **variables: str
    ) -> None:
        self.revision = revision
        self.module = module
        self.kept = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="bench-data-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # PostgreSQL runs as another user than root
        self.variables = {"SECRET_KEY_BASE": SECRET, "LOG_LEVEL": "warning", "PORT": "0", **variables}
        self.user: dict[str, Any] = {}
        self.token = ""
        self._refresh = ""
        self._clock = Clock()
        self._database_clock = Clock()

    def __enter__(self) -> BitNexus:
        try:
            self.start()
            if not (self.folder / USER_MADE).exists():
                self.command("user", "create", EMAIL, "--password", PASSWORD)
                (self.folder / USER_MADE).touch()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.running.stop()
        if not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What its programs run with."""
        return self.revision.environment(DATA_DIR=str(self.folder), **self.variables)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.running.port

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Starts it; seconds until it said that it serves."""
        began = time.perf_counter()
        command = [self.revision.python, "-m", self.module, "serve"]
        where = self.revision.root if self.module == "api.cli" else ROOT
        self.running = Program(command, self.environment, where)
        assert self.running.process.stdout is not None
        found = re.search(r"serves on \S+:(\d+)", self.running.process.stdout.readline())
        if found is None:
            raise Lacks(f"the server did not start: {self.running.last_error()}")
        self.running.port = int(found[1])
        return time.perf_counter() - began

    def restart(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Ends it and starts it anew on the same port; seconds the start took."""
        self.variables["PORT"] = str(self.port)
        self.cpu()  # what the clock has seen of it is kept
        self.running.process.send_signal(how)
        self.running.process.wait(PATIENCE)
        self.running.stop()
        return self.start()

    def command(self, *arguments: str, text: str | None = None) -> str:
        """What one of its commands prints, with this text on standard input. Raises Lacks when it fails."""
        command = [self.revision.python, "-m", "api.cli", *arguments]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.revision.root,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Lacks(f"bitnexus {arguments[0]}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
        return done.stdout

    def fill(self, program: Path, *arguments: str) -> None:
        """Runs a file with this commit's Python, and psql with what it prints. Raises Lacks when either fails."""
        python, where = self.revision.python, self.revision.root
        printing = subprocess.Popen([python, "-P", str(program), *arguments], stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, env=self.environment, cwd=where)  # fmt: skip
        psql = subprocess.run([python, "-m", "api.cli", "psql"], stdin=printing.stdout, capture_output=True,
                              env=self.environment, cwd=where, check=False)  # fmt: skip
        _, errors = printing.communicate()
        if printing.returncode or psql.returncode:
            said = (errors if printing.returncode else psql.stderr).decode().strip().splitlines()
            raise Lacks(f"{program.name}: {said[-1] if said else 'failed'}")

    def cpu(self) -> float:
        """CPU seconds of the server so far, those of before a restart included."""
        return self._clock.read(self.pids())

    def pids(self) -> set[int]:
        """The server's processes, without PostgreSQL's."""
        return self.running.pids() - self._postgres()

    def database_cpu(self) -> float:
        """CPU seconds of its PostgreSQL so far."""
        return self._database_clock.read(self._postgres())

    def memory(self) -> int:
        """Resident bytes of the server."""
        return memory(self.pids())

    def _postgres(self) -> set[int]:
        for pid_file in self.folder.rglob("postmaster.pid"):
            return tree(int(pid_file.read_text().split()[0]))
        return set()

    async def sign_in(self) -> str:
        """The user's access token of a new session."""
        body = json.dumps({"email": EMAIL, "password": PASSWORD}).encode()
        self._signed_in(await self._asks("POST", "/api/v1/auth/login", body))
        return self.token

    async def tokens(self, count: int) -> list[str]:
        """New access tokens of the user, from one refresh after the other."""
        if not self._refresh:
            await self.sign_in()
        found: list[str] = []
        connection = await http_load.connect(self.port)
        for _ in range(count):
            body = json.dumps({"refresh_token": self._refresh}).encode()
            raw = http_load.request("POST", "/api/v1/auth/refresh", body)
            self._signed_in(json.loads(http_load.body(await connection.request(raw, 200))))
            found.append(self.token)
        connection.close()
        return found

    def _signed_in(self, answer: dict[str, Any]) -> None:
        self.token = answer.get("token") or answer["access_token"]
        self._refresh = answer["refresh_token"]
        self.user = answer.get("user", self.user)

    async def _asks(self, method: str, path: str, body: bytes) -> Any:
        connection = await http_load.connect(self.port)
        try:
            return json.loads(
                http_load.body(await connection.request(http_load.request(method, path, body), 200))
            )
        finally:
            connection.close()

    def create_users(self, count: int, role: str = "user") -> list[UUID]:
        """Inserts `count` users. They have no passwords, since hashing would take minutes; `signed` makes their tokens."""
        users = [uuid4() for _ in range(count)]
        rows = ",".join(f"('{user}', '{user}@example.com', '{role}')" for user in users)
        self.command("psql", text=f"INSERT INTO users (id, email, role) VALUES {rows};")  # noqa: S608 - our own uuids
        return users


def signed(user: UUID, role: str = "user") -> str:
    """A token that another service, which shares the secret, would issue for this user."""
    now = int(time.time())
    claims = {"sub": str(user), "role": role, "email": f"{user}@example.com", "jti": uuid4().hex}
    claims |= {"iat": now, "exp": now + TOKEN_SECONDS, "iss": "bitnexus", "aud": "bitnexus"}
    return jwt.encode(claims, SECRET, "HS256")


@contextmanager
def serving(revision: Revision, folder: Path | None = None) -> Iterator[BitNexus]:
    """A running server of this commit, its user signed in."""
    with BitNexus(revision, folder=folder) as server:
        asyncio.run(server.sign_in())
        yield server
