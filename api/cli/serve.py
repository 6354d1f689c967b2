"""`bitnexus serve`: starts the engine and the tree of supervisor.toml, and stops them in order.

Ctrl-C or SIGTERM stops the tree in reverse start order; a second one ends it at once. A failed start is explained on one line.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from thespian.actors import ActorSystem

from actors.cluster.parent import ParentLine
from actors.endpoint import GetAddress
from actors.listening import EndpointError, check_port
from actors.secret_keys import weakness
from actors.settings import Settings
from api.cli import memory
from api.cli.database import ONE_LINE, complain
from api.cli.exit_cause import ExitCause
from api.operators import logs
from api.security.tokens import Keyring
from runtime import (
    TIMEOUT,
    AsyncioEngine,
    Pid,
    Stack,
    StartError,
    SystemBase,
    describe,
    erlang,
    gen_server,
    tree_config,
)

log = logging.getLogger("bitnexus.serve")

STOP_MS = 9000
GC_THRESHOLDS = (10_000, 10, 1_000)  # see gc.set_threshold
# A symbolic link in the repository, a file in the wheel.
OWN_TREE = Path(__file__).resolve().parents[1] / "supervisor.toml"


def _add_to_path(tree_file: Path) -> None:
    """Makes modules beside the supervisor.toml importable: its directory comes last on the import path."""
    folder = str(tree_file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)


def run(settings: Settings, tree_file: Path | None) -> int:
    """Serves until a signal; returns the exit code."""
    logs.configure(settings)
    try:
        file = tree_file or default_tree()
        _add_to_path(file)
        tree = tree_config.load(file)
        Keyring(settings)
    except (tree_config.TreeConfigError, *ONE_LINE) as error:
        return complain(error)
    try:
        end_tracing = _tracing(settings)
    except ImportError:
        return complain("OTEL_EXPORTER_OTLP_ENDPOINT: traces need the extra: pip install 'bitnexus[tracing]'")
    try:
        return uvloop.run(_serve(settings, tree))
    finally:
        end_tracing()


def _tracing(settings: Settings) -> Callable[[], None]:
    if not settings.otel_exporter_otlp_endpoint:
        return lambda: None
    from api.operators import tracing

    return tracing.install(settings)


def tune_process() -> None:
    """Raises the limit of open files, and keeps the pauses of the garbage collector short.

    Called once all modules are loaded, and again when the tree has started: the first collection is the long one, 60 ms or many
    times that on a busy machine, and must be over before anybody is served. Objects that exist now live for ever, so they are
    frozen. A full collection visits every object of every open socket, and sockets are freed without it
    (tests/runtime/test_leaks.py): with Python's default thresholds it blocked the event loop for up to 850 ms while 10,000
    sockets joined.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    memory.return_memory()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def default_tree() -> Path:
    """supervisor.toml in the working directory, else the one that BitNexus ships with."""
    here = Path("supervisor.toml")
    return here if here.exists() else OWN_TREE


async def _serve(settings: Settings, tree: tree_config.Tree) -> int:
    try:
        check_port(settings.host, settings.port)
    except EndpointError as error:
        return complain(error)
    stop = Signals()
    line = ParentLine(stop.stop) if settings.parent_socket else None
    engine = AsyncioEngine().start()
    # Thespian's API on the same engine: actors of the tree may create plain Thespian actors.
    ActorSystem(systemBase=SystemBase(engine), transientUnique=True)
    importlib.import_module("api.app")  # as the endpoint does later
    tune_process()
    try:
        root = await start_tree(tree, stop)
        if not isinstance(root, Pid):
            return root
        if not settings.secret_key_base:
            log.warning("SECRET_KEY_BASE is unset: the development key in %s signs tokens", settings.data_dir)
        elif why := weakness(settings.secret_key_base):
            log.warning("SECRET_KEY_BASE is weak (%s); prod would refuse it", why)
        tune_process()
        memory.use_huge_pages()
        address = await gen_server.call("endpoint", GetAddress())
        if line is None:
            announce(f"BitNexus serves on {address.url}  (docs: {address.url}/docs, stop: Ctrl-C)")
        else:
            line.serves()
        return await until_stopped(root, stop)
    finally:
        stop.restore()
        if line is not None:
            line.close()
        await engine.stop()


def announce(line: str) -> None:
    """Prints a line on standard output; a full disk or a closed pipe there is no reason not to serve."""
    try:
        print(line, flush=True)
    except OSError as error:
        log.warning("standard output can't be written: %s", error.strerror)
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # what is buffered is tried again at the end


async def start_tree(tree: tree_config.Tree, stop: Signals) -> Pid | int:
    """The root's pid, or an exit code if the tree did not start."""
    reports = logging.getLogger("runtime.reports")
    level = reports.level
    reports.setLevel(logging.CRITICAL)  # a failure is explained below, once
    starting = asyncio.ensure_future(tree.start_link())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            print("stopped before the start was complete", file=sys.stderr)
            starting.cancel()
            return 130
        root = starting.result()
        if root is None:
            return complain("the tree did not start: its root ignored the start")
        return root
    except StartError as error:
        return complain(explain(error.reason))
    finally:
        stopping.cancel()
        reports.setLevel(level)


async def until_stopped(root: Pid, stop: Signals, stop_ms: int = STOP_MS) -> int:
    """Waits for a signal, then stops the tree within `stop_ms`; or for the tree to end by itself. Returns the exit code."""
    down = asyncio.ensure_future(_down(root))
    stopping = asyncio.ensure_future(stop.wait())
    with ExitCause() as exit_cause:
        await asyncio.wait((down, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if down.done():
        return complain(f"the tree ended: {exit_cause.line or explain(down.result())}")
    log.info("stopping")
    erlang.exit(root, "shutdown")
    forced = asyncio.ensure_future(stop.wait())
    await asyncio.wait((down, forced), timeout=stop_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
    forced.cancel()
    if not down.done():
        log.warning("processes that did not stop in time are killed")
        down.cancel()
        return 1
    log.info("stopped")
    return 0


async def _down(pid: Pid) -> Any:
    reason = await erlang.await_down(pid)
    assert reason is not TIMEOUT
    return reason


class Signals:
    """SIGINT, SIGTERM and SIGHUP as an event that can be awaited repeatedly; SIGHUP unless it is ignored, as under nohup."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]
        for number in self._numbers:
            self._loop.add_signal_handler(number, self._event.set)

    def stop(self) -> None:
        """Acts as a signal does."""
        self._event.set()

    async def wait(self) -> None:
        """Waits for the next signal."""
        await self._event.wait()
        self._event.clear()

    def restore(self) -> None:
        """Removes the signal handlers."""
        for number in self._numbers:
            self._loop.remove_signal_handler(number)


def explain(reason: Any) -> str:
    """One line for an exit reason of the tree: the message of the exception at its root, if there is one."""
    found = _leaf(reason)
    if isinstance(found, (EndpointError, tree_config.TreeConfigError, *ONE_LINE)):
        return str(found)
    if isinstance(found, BaseException):
        return f"{_child(reason)}{type(found).__name__}: {found}"
    return f"{_child(reason)}{describe(reason)}"


def _leaf(reason: Any) -> BaseException | None:
    if isinstance(reason, BaseException):
        inner = getattr(reason, "reason", None)
        return _leaf(inner) or reason if inner is not None else reason
    if isinstance(reason, tuple):
        for part in reason:
            if not isinstance(part, Stack) and (found := _leaf(part)) is not None:
                return found
    return None


def _child(reason: Any) -> str:
    """The innermost child that failed to start."""
    name = ""
    while isinstance(reason, tuple):
        failed = next(
            (part for part in reason if isinstance(part, tuple) and part[:1] == ("failed_to_start_child",)),
            None,
        )
        if reason[:1] == ("failed_to_start_child",):
            failed = reason
        if failed is None:
            break
        name, reason = str(failed[1]), failed[2] if len(failed) > 2 else None
    return f"{name} did not start: " if name else ""
