"""`bitnexus serve --nodes N`: the parent of N server processes on one port; `bitnexus upgrade`: replaces them.

The parent runs a tree of its own (actors/cluster/servers.toml): the embedded PostgreSQL and NATS unless others are configured,
and the servers. It accepts no connections. Ctrl-C or SIGTERM stops the servers, then NATS, then PostgreSQL; SIGHUP replaces the
servers one by one. DATA_DIR/servers.json has the parent's process id and the state of the latest upgrade. The parent keeps
DATA_DIR/servers.lock locked: without that, the process of that id may be another program by now.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import time
import tomllib
from pathlib import Path
from typing import Any

import uvloop

from actors import cluster
from actors.cluster.server_process import GetServer
from actors.cluster.servers import Roll, place
from actors.endpoint import Address
from actors.listening import EndpointError, check_port
from actors.server_state import server_state
from actors.settings import Settings
from actors.storage.postgres.files import write_private
from api.cli.database import CommandError, complain
from api.cli.serve import Signals, announce, explain, start_tree, until_stopped
from api.operators import logs
from runtime import AsyncioEngine, Exit, Pid, gen_server, tree_config

TREE = Path(cluster.__file__).with_name("servers.toml")
POLL_SECONDS = 0.05
STOP_MS = 60_000
STATE = "servers.json"
LOCK = "servers.lock"


def run(settings: Settings, tree_file: Path | None) -> int:
    """Serves with `settings.nodes` servers until a signal; returns the exit code."""
    logs.configure(settings)
    tables = tomllib.loads(TREE.read_text())
    if tree_file is not None:
        tables["worker"]["servers"]["args"] = {"tree": str(tree_file.resolve())}
    return uvloop.run(_serve(settings, tree_config.parse(tables, TREE.name)))


async def _serve(settings: Settings, tree: tree_config.Tree) -> int:
    try:
        check_port(settings.host, settings.port)
    except EndpointError as error:
        return complain(error)
    try:
        lock = hold(settings)
    except OSError as error:
        return complain(f"DATA_DIR: {error.filename}: {error.strerror}")
    if lock is None:
        return complain(
            f"DATA_DIR: another `bitnexus serve --nodes` runs with {settings.data_dir}; stop it, or set another DATA_DIR"
        )
    stop = Signals()
    engine = AsyncioEngine().start()
    upgrades = Upgrades(settings)
    try:
        root = await start_tree(tree, stop)
        if not isinstance(root, Pid):
            return root
        failed = await _until_all_serve(settings.nodes, root)
        if failed is not None:
            return complain(failed)
        upgrades.watch()
        url = Address(settings.host, server_state().port).url
        servers = f"{settings.nodes} servers"
        announce(f"BitNexus serves on {url}  ({servers}, docs: {url}/docs, stop: Ctrl-C, replace: SIGHUP)")
        return await until_stopped(root, stop, STOP_MS)
    finally:
        upgrades.close()
        stop.restore()
        await engine.stop()
        os.close(lock)


def hold(settings: Settings) -> int | None:
    """Keeps DATA_DIR for this parent until the descriptor is closed; None if another parent has it. Raises OSError."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    lock = _lock(settings, fcntl.LOCK_EX)
    if lock is not None:  # of a parent that was killed: another program may have that process id by now
        (settings.data_dir / STATE).unlink(missing_ok=True)
    return lock


async def _until_all_serve(count: int, root: Pid) -> str | None:
    """Waits until all servers serve; returns None, or why one never will."""
    for number in range(1, count + 1):
        while True:
            try:
                status = await gen_server.call(place(number), GetServer())
            except Exit as error:
                return f"{place(number)} did not start: {explain(error.reason)}"
            if status.serves:
                break
            if status.failed is not None:
                return f"{status.node} ended before it served (exit status {status.failed}); its own message is above"
            await asyncio.sleep(POLL_SECONDS)
    return None


class Upgrades:
    """Rolling upgrades on SIGHUP, and the file with their state. A SIGHUP during an upgrade starts another one after it."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.data_dir / STATE
        self._count = 0
        self._requested = False
        self.rolling: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Starts handling SIGHUP."""
        self._write_state("ready")
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.request)

    def request(self) -> None:
        """Starts an upgrade now, or after the one under way: that one may have started servers before what is new was there."""
        self._requested = True
        if self.rolling is None or self.rolling.done():
            self.rolling = asyncio.get_running_loop().create_task(self._roll())

    async def _roll(self) -> None:
        while self._requested:
            self._requested = False
            self._count += 1
            self._write_state("rolling")
            try:
                answer = await gen_server.call("upgrade", Roll(), None)
            except Exit as error:
                answer = ("error", f"the upgrade ended: {error.reason}")
            self._write_state("done" if answer == "ok" else str(answer[1]))

    def _write_state(self, state: str) -> None:
        write_private(self._file, json.dumps({"pid": os.getpid(), "upgrade": self._count, "state": state}))

    def close(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        self._file.unlink(missing_ok=True)


def upgrade(settings: Settings) -> int:
    """Makes the parent that uses this DATA_DIR replace its servers, and waits until it has. Raises CommandError."""
    before = _state(settings)
    os.kill(before["pid"], signal.SIGHUP)
    while True:
        now = _state(settings)
        if now["upgrade"] > before["upgrade"] and now["state"] != "rolling":
            break
        time.sleep(POLL_SECONDS)
    if now["state"] != "done":
        raise CommandError(now["state"])
    print("all servers are replaced")
    return 0


def _state(settings: Settings) -> dict[str, Any]:
    try:
        state = json.loads((settings.data_dir / STATE).read_text())
        lock = _lock(settings, fcntl.LOCK_SH)  # not in the way of others who ask
    except (OSError, ValueError):
        lock = state = None
    if lock is not None:
        os.close(lock)
    if lock is not None or state is None:
        raise CommandError(
            f"no `bitnexus serve --nodes` runs with DATA_DIR {settings.data_dir}: nothing to upgrade"
        )
    return state


def _lock(settings: Settings, kind: int) -> int | None:
    """Locks DATA_DIR until the descriptor is closed; None if somebody has a lock that excludes this one."""
    descriptor = os.open(settings.data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
