"""The operating system's side of a postmaster: what runs in a data directory, and the child we started.

A pid file alone proves nothing: its number may be a zombie or belong by now to another program. What counts
is a living process whose working directory is the data directory, which holds for a postmaster and all its
backends.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from actors.storage.postgres.files import Account, PostgresError

LAUNCHER = Path(__file__).with_name("launcher.py")
_ERROR = re.compile(r"\b(?:FATAL|PANIC|[Ee]rror):")
FAST, IMMEDIATE, KILL = signal.SIGINT, signal.SIGQUIT, signal.SIGKILL


def living_in(directory: Path) -> list[int]:
    """Pids of the living (no zombies) processes that work in `directory`."""
    found: list[int] = []
    target = str(directory.resolve())
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/cwd") == target:
                    found.append(int(entry))
            except OSError:
                continue  # it ended, is a zombie, or is not ours to look at
    return found


def postmaster_pid(data: Path) -> int | None:
    """The pid that the data directory's pid file names, if it names one."""
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def says_ready(data: Path, pid: int) -> bool:
    """Whether the postmaster `pid` has written "ready" into its pid file, as pg_ctl looks for it."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def clear_remains(data: Path, timeout: float = 5.0) -> None:
    """End whatever an earlier server left running in `data` and remove its stale files. Blocks, 3 * `timeout` s at most.

    The caller holds the lock of the data directory, so none of it can belong to a running server.
    """
    orphan = postmaster_pid(data)
    for order in (FAST, IMMEDIATE, KILL):
        left = living_in(data)
        if not left:
            break
        # Backends whose postmaster is dead notice it by themselves, in milliseconds; only a last one must be
        # killed.
        targets = [orphan] if orphan in left else left if order is KILL else []
        for pid in targets:
            try:
                os.kill(pid, order)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + (timeout if targets else 1.0)
        while living_in(data) and time.monotonic() < deadline:
            time.sleep(0.02)
    if left := living_in(data):
        raise PostgresError(f"processes {left} still work in {data} and can't be ended")
    if os.path.isdir("/proc"):  # elsewhere nothing was proven, and PostgreSQL judges the file itself
        (data / "postmaster.pid").unlink(missing_ok=True)


def command(who: Account, directory: Path, program: Path, *arguments: str) -> list[str]:
    """The command line that runs `program` as `who` in `directory`, dying with this process."""
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(who.uid), str(who.gid)]
    return [*launcher, str(directory), str(program), *arguments]


def environment() -> dict[str, str]:
    """What a PostgreSQL program may inherit: no PG* settings, no credentials of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"LC_ALL": "C", "TZ": "UTC"} | kept


def run(who: Account, directory: Path, program: Path, *arguments: str) -> None:
    """Run a PostgreSQL program to its end; raises `PostgresError` with its last words when it fails."""
    done = subprocess.run(
        command(who, directory, program, *arguments),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = last_words((done.stderr or done.stdout).splitlines())
        raise PostgresError(f"{program.name} failed: {words or f'exit status {done.returncode}'}")


def last_words(lines: Sequence[str]) -> str:
    """The last of a PostgreSQL program's lines that tells of an error, else the last one; "" if it wrote none."""
    said = [line for line in lines if line.strip()]
    errors = [line for line in said if _ERROR.search(line)]
    return (errors or said or [""])[-1]


class Postmaster:
    """A postmaster that this process started.

    Start it on a thread that lives as long as the server: the kernel ends the postmaster when that thread ends. `on_exit`
    callables run on a thread of their own, once, with the exit status.
    """

    def __init__(self, who: Account, data: Path, program: Path, arguments: Sequence[str], log: Path) -> None:
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                command(who, data, program, "-D", str(data), *arguments),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C in the terminal is for the server; it stops PostgreSQL last
            )
        self.pid = self.child.pid
        self.status: int | None = None
        self._lock = threading.Lock()
        self._on_exit: list[Callable[[int], None]] = []
        self._ended = threading.Event()
        threading.Thread(target=self._wait, name=f"postmaster-{self.pid}", daemon=True).start()

    @property
    def alive(self) -> bool:
        return self.status is None

    def notify(self, on_exit: Callable[[int], None]) -> None:
        """Call `on_exit(status)` when the postmaster ends; at once if it has."""
        with self._lock:
            if self.status is None:
                self._on_exit.append(on_exit)
                return
        on_exit(self.status)

    def forget(self, on_exit: Callable[[int], None]) -> None:
        """Undo `notify`."""
        with self._lock:
            if on_exit in self._on_exit:
                self._on_exit.remove(on_exit)

    def signal(self, order: signal.Signals) -> None:
        """FAST, IMMEDIATE or KILL."""
        if self.alive:
            self.child.send_signal(order)

    def wait(self, seconds: float) -> bool:
        """Block until it ended, at most `seconds`; whether it has."""
        return self._ended.wait(seconds)

    def stop(self, timeout: float = 6.0) -> None:
        """Fast shutdown; after `timeout` seconds immediate, then kill. Blocks."""
        for order in (FAST, IMMEDIATE, KILL):
            self.signal(order)
            if self.wait(timeout if order is FAST else 2.0):
                return

    def _wait(self) -> None:
        status = self.child.wait()
        with self._lock:
            self.status = status
            callbacks, self._on_exit = self._on_exit, []
        self._ended.set()
        for on_exit in callbacks:
            on_exit(status)
