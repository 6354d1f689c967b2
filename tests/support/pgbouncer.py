"""Debian's PgBouncer before a database of the embedded cluster."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from actors.storage.postgres.files import account
from actors.storage.postgres.process import command

PORT = 6432
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


class PgBouncer:
    """In `folder`, before the database of `url`; `url` of the object leads through it."""

    def __init__(self, folder: Path, url: str, pool_mode: str) -> None:
        self.folder, self.who = folder, account()
        parts = urlsplit(url)
        behind = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.url = (
            f"postgresql://{parts.username}@{parts.path}?host={quote(str(folder), safe='')}&port={PORT}"
        )
        (folder / "users.txt").write_text(f'"{parts.username}" "{parts.password}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"""[databases]
* = host={behind["host"]} port={behind["port"]}
[pgbouncer]
pool_mode = {pool_mode}
unix_socket_dir = {folder}
listen_port = {PORT}
auth_type = trust
auth_file = {folder}/users.txt
server_login_retry = 1
"""
        )
        if os.geteuid() == 0:
            for path in (folder, *folder.iterdir()):
                os.chown(path, self.who.uid, self.who.gid)
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Starts the program."""
        assert PROGRAM is not None, "pgbouncer is not installed"
        self.process = subprocess.Popen(
            command(self.who, self.folder, Path(PROGRAM), "-q", str(self.folder / "pgbouncer.ini")),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def start(self) -> None:
        """Starts it and waits until it accepts connections."""
        self.launch()
        while not (self.folder / f".s.PGSQL.{PORT}").exists():
            assert self.process is not None and self.process.poll() is None, "pgbouncer ended"
            await asyncio.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        (self.folder / f".s.PGSQL.{PORT}").unlink(missing_ok=True)


@asynccontextmanager
async def pgbouncer(url: str, pool_mode: str) -> AsyncIterator[PgBouncer]:
    """A running PgBouncer before the database of `url`."""
    folder = Path(tempfile.mkdtemp(prefix="bitnexus-pgbouncer-"))
    running = PgBouncer(folder, url, pool_mode)
    try:
        await running.start()
        yield running
    finally:
        running.kill()
        shutil.rmtree(folder, ignore_errors=True)
