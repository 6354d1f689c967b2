"""Started programs, and what they have used by the kernel's account: CPU seconds from its scheduler, resident memory."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil


def tree(pid: int) -> set[int]:
    """A process and all below it; empty when it has gone."""
    try:
        return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    except psutil.NoSuchProcess:
        return set()


class Clock:
    """CPU seconds of processes. A thread that has ended counts with its last reading, so that the sum never decreases."""

    def __init__(self) -> None:
        self._used: dict[tuple[int, int], float] = {}

    def read(self, pids: Iterable[int]) -> float:
        """The seconds of these processes so far, and of all that were read before."""
        for pid in pids:
            self._used.update(threads(pid))
        return sum(self._used.values())


def threads(pid: int) -> dict[tuple[int, int], float]:
    """CPU seconds of each thread of a process: in nanoseconds if the kernel has schedstat, else in ticks."""
    found: dict[tuple[int, int], float] = {}
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found[pid, int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        if found or not psutil.pid_exists(pid):
            return found
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            return found
        found[pid, pid] = times.user + times.system
    return found


def memory(pids: Iterable[int]) -> int:
    """Resident bytes."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


class Program:
    """A started program that listens on `port`."""

    def __init__(self, command: list[str], environment: dict[str, str], where: Path, port: int = 0) -> None:
        self.port = port
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=where,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self._clock = Clock()

    def pids(self) -> set[int]:
        """The processes that are the server's."""
        return tree(self.process.pid)

    def cpu(self) -> float:
        """CPU seconds so far."""
        return self._clock.read(self.pids())

    def memory(self) -> int:
        """Resident bytes."""
        return memory(self.pids())

    def last_error(self) -> str:
        """The last line that it wrote to standard error."""
        self.errors.seek(0)
        return (self.errors.read().strip().splitlines() or ["without a message"])[-1]

    def stop(self) -> None:
        """Ends it, by force when it takes too long."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()
