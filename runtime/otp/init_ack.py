"""`proc_lib`'s `init_ack`: the starter of a process waits until the process has acknowledged its start or has ended.

Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import PendingReply, scheduler
from runtime.core.signals import ExitMessage


class StartError(Exception):
    """`{error, Reason}` from a start function."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


class StartReply(PendingReply):
    """The starter's wait for `init_ack`, which is `resolve`. If the process ends first, its reason is the error.

    It is the `execution.watcher` of the new process.
    """

    target: Cell
    starter: Cell | None

    def __await__(self) -> Generator[Any, None, Any]:
        caller = scheduler.current
        if caller is not None and not self.done:
            execution = caller.execution
            engine = execution.engine
            if engine.queue:
                execution.waiting = self  # for `take_exit`
                engine.hand_over(caller, self.target, in_order=True)
                execution.waiting = None
        if not self.done:
            yield from super().__await__()
        if self.error is not None:
            raise self.error
        return self.value

    def take_exit(self, pid: Pid, reason: Any) -> bool:
        # As in sync_start_link any EXIT message from the process ends the wait, also one that it sent by exit/2.
        if self.done or self.starter is None or pid is not self.target:
            return False
        self.resolve(None, StartError(reason))
        return True

    def too_late(self, result: Any) -> None:
        """The process acknowledges its start after `take_exit`: in OTP that is a message to the starter."""
        if self.starter is not None:
            self.starter.deliver(("ack", self.target, result))

    def fire(self, pid: Pid | None, reason: Any) -> None:
        if self.done:
            return
        if self.starter is not None:
            self.starter.take(lambda message: isinstance(message, ExitMessage) and message.pid is pid)
        self.resolve(None, StartError(reason))

    def abandon(self) -> None:
        super().abandon()
        self.target.drop_monitor(self)


async def acknowledged_within(started: StartReply, timeout: float) -> Any:
    """`proc_lib:sync_start`: awaits the acknowledgement; after `timeout` ms the process is unlinked and killed.

    Raises StartError: the exit reason of the process, or "timeout".
    """
    if timeout == 0:  # it has not begun
        _give_up(started)
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
