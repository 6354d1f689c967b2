"""Eager tasks outside of processes: coroutines that start at once (as `asyncio.eager_task_factory` of Python 3.12).

A coroutine that awaits replies of processes only never becomes an asyncio task: a `PendingReply` resumes it without a future,
and all coroutines with a reply from one slice of processes continue at the end of that slice. At its first wait for anything
else a coroutine becomes an asyncio task.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Final

from runtime.core.scheduling import Wait, scheduler

Task = Any  # an asyncio.Task or an EagerTask: `cancelled`, `exception` and `result` are those of either


class Runner:
    """Runs eager tasks on one loop."""

    __slots__ = ("_context", "_ready", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self._ready: list[EagerTask] = []
        self._context = copy_context()

    def begin(self, coroutine: Coroutine[Any, Any, Any], done: Callable[[Task], object]) -> tuple[Any, Task]:
        """Runs a coroutine up to its end or its first wait. Returns (result, None) or (None, task).

        `done` is called with the task when it has ended, if there is one. Must be called outside of tasks. Raises what the
        coroutine raises before its first wait.
        """
        task = EagerTask(self, coroutine, done)
        try:
            task.step()
        except StopIteration as end:
            return end.value, None
        return None, task.task or task

    def go_on(self, task: EagerTask) -> None:
        """Schedules the next step of a task: at the end of the current slice of processes, or else by the loop."""
        if not self._ready:
            after_slice = scheduler.after_slice
            if after_slice is not None:
                after_slice.append(self._go_on)
            else:
                self.loop.call_soon(self._go_on, context=self._context)
        self._ready.append(task)

    def _go_on(self) -> None:
        ready, self._ready = self._ready, []
        tasks = iter(ready)
        try:
            for task in tasks:
                task.resume()
        finally:
            # One task has raised KeyboardInterrupt or SystemExit: the rest continue later.
            for task in tasks:
                self.go_on(task)


class EagerTask:
    """A coroutine of a `Runner`: its `asyncio.current_task()`, and the waiter of the `PendingReply` that it awaits.

    `task` is the asyncio task that it has become, if any; all methods then delegate to that.
    """

    __slots__ = (
        "_cancels",
        "_context",
        "_coroutine",
        "_done",
        "_error",
        "_must_cancel",
        "_queued",
        "_result",
        "_runner",
        "task",
    )

    def __init__(
        self, runner: Runner, coroutine: Coroutine[Any, Any, Any], done: Callable[[Task], object]
    ) -> None:
        self._runner = runner
        self._coroutine: Coroutine[Any, Any, Any] | None = coroutine
        self._done = done
        self._context: Context = copy_context()
        self._queued = False
        self._cancels = 0
        self._must_cancel = False
        self._result: Any = None
        self._error: BaseException | None = None
        self.task: asyncio.Task[Any] | None = None

    # ---- the runner's side

    def step(self) -> None:
        """Runs to the next wait. Raises what the coroutine raises: at its end StopIteration with its result."""
        coroutine, loop = self._coroutine, self._runner.loop
        assert coroutine is not None
        _enter_task(loop, self)  # type: ignore[arg-type]
        scheduler.eager = self
        try:
            if self._must_cancel:
                self._must_cancel = False
                wait = self._context.run(coroutine.throw, asyncio.CancelledError())
            else:
                wait = self._context.run(coroutine.send, None)
        finally:
            scheduler.eager = None
            _leave_task(loop, self)  # type: ignore[arg-type]
        if not isinstance(wait, Wait):
            self._become_task(coroutine, wait)

    def resume(self) -> None:
        """As `step`, but keeps the outcome and calls `done` at the end."""
        self._queued = False
        if self._coroutine is None:
            return  # it cancelled itself, and ended or became a task before the cancellation arrived
        try:
            self.step()
        except (KeyboardInterrupt, SystemExit):
            raise
        except StopIteration as end:
            self._result = end.value
        except BaseException as error:
            self._error = error
        else:
            return
        self._coroutine = None
        self._done(self)

    def _become_task(self, coroutine: Coroutine[Any, Any, Any], wait: Any) -> None:
        task = self.task = self._runner.loop.create_task(_Begun(coroutine, wait), context=self._context)
        self._coroutine = None
        if self._must_cancel:
            task.cancel()
        task.add_done_callback(self._done)

    # ---- the waiter of a PendingReply

    def wake(self, _wait: Any) -> None:
        """The reply has arrived, or the task is cancelled."""
        if not self._queued:
            self._queued = True
            self._runner.go_on(self)

    # ---- the interface of asyncio.Task

    def cancel(self, msg: Any = None) -> bool:
        """As `asyncio.Task.cancel`."""
        if self.task is not None:
            return self.task.cancel(msg)
        if self._coroutine is None:
            return False
        self._cancels += 1
        self._must_cancel = True
        self.wake(None)
        return True

    def uncancel(self) -> int:
        """As `asyncio.Task.uncancel`."""
        if self.task is not None:
            return self.task.uncancel()
        self._cancels = max(0, self._cancels - 1)
        return self._cancels

    def cancelling(self) -> int:
        """As `asyncio.Task.cancelling`."""
        return self._cancels if self.task is None else self.task.cancelling()

    def done(self) -> bool:
        """As `asyncio.Task.done`."""
        return self._coroutine is None if self.task is None else self.task.done()

    def cancelled(self) -> bool:
        """As `asyncio.Task.cancelled`."""
        return isinstance(self._error, asyncio.CancelledError) if self.task is None else self.task.cancelled()

    def exception(self) -> BaseException | None:
        """As `asyncio.Task.exception`."""
        return self._error if self.task is None else self.task.exception()

    def result(self) -> Any:
        """As `asyncio.Task.result`."""
        if self.task is not None:
            return self.task.result()
        if self._error is not None:
            raise self._error
        return self._result

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """As `asyncio.Task.get_loop`."""
        return self._runner.loop

    def __getattr__(self, name: str) -> Any:
        task = self.task
        if task is None:
            raise AttributeError(f"{name}: the task has not begun to wait")
        return getattr(task, name)


class _Begun(Coroutine[Any, Any, Any]):
    """A coroutine that has already run up to a wait: the first value it yields is that wait."""

    __slots__ = ("_coroutine", "_given", "_wait")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], wait: Any) -> None:
        self._coroutine = coroutine
        self._wait = wait
        self._given = False

    def send(self, value: Any) -> Any:
        if not self._given:
            self._given = True
            wait, self._wait = self._wait, None
            return wait
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        self._given, self._wait = True, None
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        raise TypeError("a coroutine that has begun is awaited by its task")
