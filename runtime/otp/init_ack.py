"""`proc_lib`'s `init_ack`: who starts a process waits until that process says that it has started.

A started process acknowledges once, or its end is the answer. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.signals import DownReply, ExitMessage


class StartError(Exception):
    """`{error, Reason}` of a start function."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


class StartReply(DownReply):
    """`proc_lib:start_link`'s wait for `init_ack`. If the process dies before, its reason is the error.

    It lies in the new process's `execution.watcher`.
    """

    starter: Cell | None

    def __post_init__(self) -> None:
        """No monitor is set."""

    def take_exit(self, pid: Pid, reason: Any) -> bool:
        # As sync_start_link does: any EXIT message of the process is the answer, also one it sent by exit/2.
        if self.done or self.starter is None or pid is not self.target:
            return False
        self.resolve(None, StartError(reason))
        return True

    def fire(self, pid: Pid | None, reason: Any) -> None:
        if self.done:
            return
        if self.starter is not None:
            self.starter.take(lambda message: isinstance(message, ExitMessage) and message.pid is pid)
        self.resolve(None, StartError(reason))

    def acknowledge(self, value: Any, error: StartError | None = None) -> None:
        """`proc_lib:init_ack/2`."""
        self.resolve(value, error)


def acknowledged(started: StartReply, timeout: float | None) -> Awaitable[Any]:
    """`proc_lib:sync_start`: what the process says; after `timeout` ms it is killed, and nothing of its end comes to the starter.

    Raises StartError where it is awaited: the process's reason, or "timeout".
    """
    return started if timeout is None else _acknowledged_within(started, timeout)


async def _acknowledged_within(started: StartReply, timeout: float) -> Any:
    timer = started.target.engine.call_later(timeout / 1000, _give_up, started)
    try:
        return await started
    finally:
        timer.cancel()


def _give_up(started: StartReply) -> None:
    if started.done:
        return
    cell = started.target
    if started.starter is not None:
        started.starter.unlink(cell)
    started.resolve(None, StartError("timeout"))
    cell.exit_signal(cell, "kill", False)
