"""A process as asyncio sees it: `asyncio.current_task()` inside a process, and the clean-up of a killed one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

from runtime.core.exits import Unwind
from runtime.core.modes import BLOCKED, DEAD, RECEIVING
from runtime.core.scheduling import Wait, scheduler

if TYPE_CHECKING:
    from runtime.core.control_block import ExecutionState, Relations
    from runtime.core.pid import Pid

_log = logging.getLogger("runtime")


class AsyncioTask:
    """The part of `asyncio.Task` that timeouts, task groups and libraries use; `Cell` inherits it."""

    __slots__ = ()

    if TYPE_CHECKING:
        execution: ExecutionState
        relations: Relations

        def on_exit(self, hook: Callable[[Pid], object]) -> None: ...
        def wake(self, wait: Any) -> None: ...

    def cancel(self, msg: Any = None) -> bool:
        """As `asyncio.Task.cancel`: raises CancelledError where the process's coroutine waits."""
        execution = self.execution
        if execution.coro is None:
            return False
        execution.cancels += 1
        waiting = execution.waiting
        if isinstance(waiting, asyncio.Future) and waiting.cancel():
            return True
        execution.must_cancel = True
        if execution.mode in (RECEIVING, BLOCKED):
            self.wake(waiting)
        return True

    def uncancel(self) -> int:
        """As `asyncio.Task.uncancel`."""
        if self.execution.cancels > 0:
            self.execution.cancels -= 1
        return self.execution.cancels

    def cancelling(self) -> int:
        """As `asyncio.Task.cancelling`."""
        return self.execution.cancels

    def cancelled(self) -> bool:
        """As `asyncio.Task.cancelled`."""
        return False

    def done(self) -> bool:
        """As `asyncio.Task.done`."""
        return self.execution.mode == DEAD

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """As `asyncio.Task.get_loop`."""
        return self.execution.engine.loop

    def get_name(self) -> str:
        """As `asyncio.Task.get_name`."""
        return self.relations.name or str(self)

    def get_coro(self) -> Coroutine[Any, Any, Any] | None:
        """As `asyncio.Task.get_coro`."""
        return self.execution.coro

    def get_context(self) -> Context | None:
        """As `asyncio.Task.get_context`."""
        return self.execution.context

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """As `asyncio.Task.add_done_callback`: called when the process ends."""
        self.on_exit(lambda _pid: callback(self))


class Unwinding:
    """Cancels the coroutine of a process that was killed while it waited, so that it can release its resources.

    The coroutine sees CancelledError where it waits. It runs outside of any process, since its own has ended; what its finally
    clauses await is awaited by an asyncio task.
    """

    __slots__ = ("_context", "_coro", "_wait")

    def __init__(self, coro: Coroutine[Any, Any, Any], wait: Any, context: Context) -> None:
        self._coro = coro
        self._wait = wait
        self._context = context

    def start(self) -> bool:
        """Throws CancelledError. True if the coroutine waits again and has to be awaited, False if it has ended."""
        if isinstance(self._wait, asyncio.Future) and self._wait.cancel():
            self._wait._asyncio_future_blocking = True
            return True
        return self._resume(asyncio.CancelledError())

    def _resume(self, error: BaseException | None) -> bool:
        outer, scheduler.unwinding = scheduler.unwinding, True
        try:
            return self._unwind(error)
        finally:
            scheduler.unwinding = outer

    def _unwind(self, error: BaseException | None) -> bool:
        for _ in range(100):
            try:
                if error is None:
                    self._wait = self._context.run(self._coro.send, None)
                else:
                    self._wait = self._context.run(self._coro.throw, error)
            except (StopIteration, asyncio.CancelledError, Unwind):
                return False
            except Exception:
                _log.warning("a killed process raised while it was cleaning up", exc_info=True)
                return False
            if not isinstance(self._wait, Wait):
                return True
            error = asyncio.CancelledError()  # a dead process cannot receive or call
        with suppress(RuntimeError):  # if it catches GeneratorExit as well
            self._coro.close()
        del self._coro  # finalised here, while `scheduler.unwinding` keeps its receive from raising in a loop
        return False

    def __await__(self) -> Generator[Any, None, None]:
        waits = True
        while waits:
            try:
                yield self._wait
            except BaseException as error:
                waits = self._resume(error)
            else:
                waits = self._resume(None)

    async def run(self) -> None:
        """The body of the asyncio task that awaits the rest of the clean-up."""
        await self
