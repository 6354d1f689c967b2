"""The running process, and what suspended ones wait for.

A coroutine suspends its process by yielding a `Wait` to the trampoline (`Cell._step`), which resumes it after
`cell.wake(wait)`. `PendingReply` waits for a reply, `Receive` for a message that matches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from runtime.core.mailbox import LONG, Pattern, pattern

if TYPE_CHECKING:
    from runtime.core.eager_task import EagerTask
    from runtime.core.pid import Pid, Ref
    from runtime.core.process import Cell

TURN_MESSAGES: Final = 64  # the most that a process handles in one turn


class Scheduler:
    """What runs right now. One object serves all engines: one thread at a time runs processes."""

    __slots__ = ("after_slice", "current", "eager", "entered", "unwinding")

    def __init__(self) -> None:
        self.current: Cell | None = None  # the running process; None outside of processes
        self.entered: Cell | None = None  # the process that is asyncio's current task
        self.eager: EagerTask | None = None  # the running eager task, outside of processes
        # What to call at the end of the current slice; None outside of a slice.
        self.after_slice: deque[Callable[[], object]] | None = None
        self.unwinding = False  # the code of a dead process is cleaning up


# Slots, not globals of this module: these are set several times in each turn, and Python stores globals more slowly.
scheduler: Final = Scheduler()


def current_process() -> Cell:
    """The running process. Raises RuntimeError outside of processes."""
    cell = scheduler.current
    if cell is None:
        raise RuntimeError("this works only inside a process")
    return cell


class Wait:
    """What a coroutine yields to the trampoline to suspend its process until `cell.wake(wait)`."""

    __slots__ = ()
    on_message = False  # True: a new message wakes the process too

    def take_exit(self, pid: Pid, reason: Any) -> bool:
        """Offers the EXIT message that an exit signal becomes. True if this wait consumes it."""
        return False


class PendingReply(Wait, Struct, kw_only=True, eq=False):
    """A reply that comes once, awaited by a process or by an asyncio task outside of processes."""

    done: bool = False
    value: Any = None
    error: BaseException | None = None
    waiter: Cell | EagerTask | asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def resolve(self, value: Any, error: BaseException | None = None) -> None:
        """Delivers the reply or raises `error` in the waiter; a second reply is dropped."""
        if self.done:
            return
        self.done = True
        self.value = value
        self.error = error
        waiter = self.waiter
        if waiter is None:
            return
        if not isinstance(waiter, asyncio.Future):
            waiter.wake(self)
        elif not waiter.done():
            waiter.set_result(None)

    def abandon(self) -> None:
        """The waiter was killed or cancelled: the reply will not be read."""
        self.done = True

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.done:
            try:
                waiter = scheduler.current or scheduler.eager
                if waiter is not None:
                    self.waiter = waiter
                    while not self.done:
                        yield self
                else:
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self.waiter = future
                    yield from future
            except BaseException:
                self.abandon()
                raise
        if self.error is not None:
            raise self.error
        return self.value


class Receive(Wait):
    """A selective receive. A message that does not match is not tested again, nor one that is older than all of `refs`."""

    __slots__ = ("fired", "match", "refs", "timeout")
    on_message = True

    def __init__(
        self, match: Callable[[Any], bool] | None, timeout: float | None, refs: Sequence[Ref] = ()
    ) -> None:
        self.match = match
        self.timeout = timeout
        self.refs = refs
        self.fired = False

    def __await__(self) -> Generator[Any, None, Any]:
        cell = scheduler.current
        if cell is None:
            while scheduler.unwinding:
                yield self  # keeps a killed process that catches everything and receives again from spinning
            raise RuntimeError("receive() works only inside a process")
        timer = None
        match = self.match
        execution = cell.execution
        execution.reductions += 1
        turn = cell.relations.reductions + execution.reductions
        seen = known = 0  # how many messages do not match; how many of these the mailbox remembers
        wanted: Pattern | None = None
        mailbox = execution.mailbox
        if mailbox and mailbox.skips is not None:
            wanted = pattern(match)
            seen = known = mailbox.first_unknown(wanted, turn, self.refs)
        try:
            if turn % TURN_MESSAGES == 0:
                yield None  # other processes get a turn even if there are always messages
            while True:
                mailbox = execution.mailbox
                if mailbox and len(mailbox) > seen:
                    if not seen:  # the first message nearly always matches
                        if match is None or match(mailbox[0]):
                            return mailbox.popleft() if mailbox.skips is None else mailbox.remove_at(0)
                        seen = 1
                    assert match is not None
                    index = mailbox.find(match, seen)
                    seen = len(mailbox) if index < 0 else index
                    if seen > LONG and seen > known:
                        wanted = wanted or pattern(match)
                        if wanted is not None:
                            known = seen
                            mailbox.refused(wanted, seen, turn)
                    if index >= 0:
                        return mailbox.remove_at(index)
                if self.fired or self.timeout == 0:
                    cell.mailbox_scanned()
                    return TIMEOUT
                if timer is None and self.timeout is not None:
                    timer = cell.engine.call_later(self.timeout, self._expire, cell)
                yield self
        finally:
            if timer is not None:
                timer.cancel()

    def _expire(self, cell: Cell) -> None:
        self.fired = True
        cell.wake(self)


class _Timeout:
    def __repr__(self) -> str:
        return "TIMEOUT"


YIELD: Final = Wait()  # a bare yield
TIMEOUT: Final = _Timeout()  # the result of a receive that has timed out
