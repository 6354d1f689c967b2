"""The stream of `Task.async_stream`: running tasks, finished results and remaining items."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from runtime.core.durations import check_timeout
from runtime.core.exits import CallSite, Exit
from runtime.core.pid import Ref
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler
from runtime.core.signals import ExitMessage
from runtime.otp import erlang
from runtime.otp.erlang import TIMEOUT, Down
from runtime.otp.task import Task, shutdown

Result = tuple[str, Any]  # ("ok", value) or ("exit", reason)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The options of `async_stream`; `timeout` in ms. Raises ValueError for an invalid option."""

    max_concurrency: int
    ordered: bool
    timeout: float | None
    on_timeout: str
    zip_input_on_exit: bool

    def __post_init__(self) -> None:
        check_timeout(self.timeout)
        most: Any = self.max_concurrency
        if type(most) is not int or most < 1:  # no task would ever run, and the stream would spin
            raise ValueError(f"max_concurrency: expected a whole number, 1 or more, got {most!r}")
        if self.on_timeout not in ("exit", "kill_task"):
            raise ValueError(f'on_timeout: expected "exit" or "kill_task", got {self.on_timeout!r}')


class _Running(NamedTuple):
    index: int
    item: Any
    task: Task
    deadline: float | None


class _Stream:
    """Runs in the owner; `start(item)` starts a task. At most `max_concurrency` tasks run or have unread results."""

    def __init__(
        self,
        owner: Cell,
        items: Iterable[Any],
        start: Callable[[Any], Awaitable[Task]],
        options: StreamOptions,
    ) -> None:
        self.owner = owner
        self.options = options
        self.running: dict[Ref, _Running] = {}
        self._start = start
        self._source = enumerate(items)
        self._more = True  # there may be more items
        self._results: dict[int, Result] = {}  # not yielded yet, by index
        self._yielded = 0

    @property
    def _room(self) -> bool:
        return self._more and len(self.running) + len(self._results) < self.options.max_concurrency

    async def fill(self) -> None:
        """Starts tasks up to the limit."""
        while self._room:
            entry = next(self._source, None)
            if entry is None:
                self._more = False
                return
            index, item = entry
            task = await self._start(item)
            timeout = self.options.timeout
            deadline = None if timeout is None else erlang.monotonic_time() + timeout
            self.running[task.ref] = _Running(index, item, task, deadline)

    def ready(self) -> Result | None:
        """Removes and returns the next result to yield; None if it is not there yet."""
        if not self.options.ordered:
            return self._results.pop(next(iter(self._results))) if self._results else None
        result = self._results.pop(self._yielded, None)
        if result is not None:
            self._yielded += 1
        return result

    @property
    def over(self) -> bool:
        """True once all results have been yielded."""
        return not self.running and not self._more and not self._results

    async def wait(self) -> None:
        """Waits until a task has ended or the oldest one has timed out."""
        if not self.running or self._room:
            return
        first = next(iter(self.running.values()))  # all have the same timeout: the oldest expires first
        left = None if first.deadline is None else max(0.0, first.deadline - erlang.monotonic_time())
        message = await erlang.receive(self._is_ours, left, refs=tuple(self.running))
        if message is TIMEOUT:
            await self._too_late(first)
        elif isinstance(message, Down):
            self._ended(message.ref, "exit", message.reason)
        else:
            self._ended(message[0], "ok", message[1])

    def _is_ours(self, message: Any) -> bool:
        if isinstance(message, Down):
            return message.ref in self.running
        return (
            isinstance(message, tuple)
            and len(message) == 2
            and isinstance(message[0], Ref)
            and message[0] in self.running
        )

    async def _too_late(self, first: _Running) -> None:
        if self.options.on_timeout != "kill_task":
            raise Exit(("timeout", CallSite("task_supervisor", "async_stream", (self.options.timeout,))))
        del self.running[first.task.ref]
        outcome = await shutdown(first.task, "brutal_kill")
        self._results[first.index] = outcome or self._exit_of(first, "timeout")

    def _ended(self, ref: Ref, kind: str, value: Any) -> None:
        ended = self.running.pop(ref)
        detach(self.owner, ended.task)
        self._results[ended.index] = self._exit_of(ended, value) if kind == "exit" else ("ok", value)

    def _exit_of(self, ended: _Running, reason: Any) -> Result:
        return ("exit", (ended.item, reason) if self.options.zip_input_on_exit else reason)

    def leave(self) -> None:
        """Stops the running tasks. Must not wait: it also runs outside of the process, when the stream is closed early."""
        for left_over in self.running.values():
            detach(self.owner, left_over.task)
            left_over.task.pid.cell.exit_signal(self.owner.pid, "shutdown", False)


async def stream(
    items: Iterable[Any], start: Callable[[Any], Awaitable[Task]], options: StreamOptions
) -> AsyncIterator[Result]:
    """Yields the results of the tasks that `start(item)` starts. Raises RuntimeError outside of processes."""
    owner = scheduler.current
    if owner is None:
        raise RuntimeError("a stream of tasks needs an owner: this works only inside a process")
    tasks = _Stream(owner, items, start, options)
    try:
        while not tasks.over:
            await tasks.fill()
            while (result := tasks.ready()) is not None:
                yield result
            await tasks.wait()
    finally:
        tasks.leave()


def detach(owner: Cell, task: Task) -> None:
    """Removes link and monitor of a task and its messages from the owner's mailbox."""
    owner.unlink(task.pid)
    owner.drop(task.ref)
    task.pid.cell.drop_monitor(task.ref)

    def is_of_task(message: Any) -> bool:
        return task.is_message(message) or (isinstance(message, ExitMessage) and message.pid is task.pid)

    while owner.take(is_of_task, task.ref):
        pass
