"""A coroutine that begins at once, and becomes an asyncio task only when it has to wait (Python 3.12 has
`asyncio.eager_task_factory`).
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any


class _Current:
    """`asyncio.current_task()` of the part that runs before there is a task; what was kept of it goes on to the task."""

    __slots__ = ("_loop", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.task: asyncio.Task[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        if self.task is None:
            raise AttributeError(f"{name}: the task has not begun to wait")
        return getattr(self.task, name)

    def cancel(self, msg: Any = None) -> bool:
        """As `asyncio.Task.cancel`."""
        return self.task is not None and self.task.cancel(msg)

    def uncancel(self) -> int:
        """As `asyncio.Task.uncancel`."""
        return 0 if self.task is None else self.task.uncancel()

    def cancelling(self) -> int:
        """As `asyncio.Task.cancelling`."""
        return 0 if self.task is None else self.task.cancelling()

    def done(self) -> bool:
        """As `asyncio.Task.done`."""
        return self.task is not None and self.task.done()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """As `asyncio.Task.get_loop`."""
        return self._loop


class _Begun(Coroutine[Any, Any, Any]):
    """A coroutine that has run up to its first wait. The first thing it yields is that wait."""

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


def begin(
    coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, context: Context | None = None
) -> tuple[Any, asyncio.Task[Any] | None]:
    """Runs a coroutine up to its end or its first wait: its result and None, or None and the task that goes on with it.

    Called outside of tasks. Raises what the coroutine raises before it waits.
    """
    if context is None:
        context = copy_context()
    current = _Current(loop)
    _enter_task(loop, current)  # type: ignore[arg-type]
    try:
        wait = context.run(coroutine.send, None)
    except StopIteration as done:
        return done.value, None
    finally:
        _leave_task(loop, current)  # type: ignore[arg-type]
    task = current.task = loop.create_task(_Begun(coroutine, wait), context=context)
    return None, task
