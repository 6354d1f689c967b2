"""The engine for tests: processes with a virtual clock and a seeded scheduler.

The seed determines the interleaving: each turn runs one message of one process, chosen by the seed. `run()` runs until nothing is
runnable, `advance(ms)` advances the virtual clock. Coroutines that use asyncio (futures, `asyncio.sleep`, `asyncio.timeout`,
task groups) run on a `VirtualLoop` with the same clock.
"""

from __future__ import annotations

import asyncio
import random
import re
from asyncio import events
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from runtime.core import engine as engines
from runtime.core import reports
from runtime.core.durations import check_duration
from runtime.core.engine import Engine
from runtime.core.pid import Pid, renumber_refs
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler

MAX_CANCELS: Final = 100  # of a task with several finally clauses that wait

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


class VirtualLoop(asyncio.AbstractEventLoop):
    """The part of an event loop that asyncio's primitives need, on the engine's clock. It does no I/O."""

    def __init__(self, engine: DeterministicEngine) -> None:
        self._engine = engine
        self._ready: deque[asyncio.Handle] = deque()
        self._created = 0
        # In order of creation.
        self._tasks: WeakValueDictionary[int, asyncio.Task[Any]] = WeakValueDictionary()

    def time(self) -> float:
        return self._engine.now()

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:  # type: ignore[override]
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:  # type: ignore[override]
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._engine.call_later(max(0.0, when - self.time()), self._due, handle)
        return handle

    def _due(self, handle: asyncio.TimerHandle) -> None:
        if not handle.cancelled():
            self._ready.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by asyncio. `_due` checks the handle instead."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:  # type: ignore[override]
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._created += 1
        self._tasks[self._created] = task
        return task

    def cancel_tasks(self) -> bool:
        """Cancels the pending tasks in order of creation; False if there are none."""
        pending = [task for task in self._tasks.values() if not task.done()]
        for task in pending:
            task.cancel()
        return bool(pending)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        raise error if isinstance(error, Exception) else RuntimeError(context.get("message"))

    def is_ready(self) -> bool:
        """True if there are callbacks for `run_ready`."""
        return bool(self._ready)

    def run_ready(self) -> bool:
        """Runs the next callback; False if there is none."""
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
                return True
        return False


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a chart. `kind` is send, signal or exit; `source` is empty outside of processes and for an exit."""

    ms: float
    kind: str
    source: str
    target: str
    content: str


class TracedCell(Cell):
    """A process whose messages and exit signals are recorded by the engine, with their senders."""

    __slots__ = ()

    @property
    def engine(self) -> DeterministicEngine:
        return self.execution.engine  # type: ignore[return-value]

    def deliver(self, message: Any) -> bool:
        sender = scheduler.current
        engine = self.engine
        engine.sent.append((sender, self, message))
        engine.add_event("send", sender, self, message)
        engine.record(
            "send", "" if sender is None else sender.get_name(), f"{self.get_name()} {reports.text(message)}"
        )
        return super().deliver(message)

    def exit_signal(self, source: Pid, reason: Any, linked: bool) -> None:
        detail = f"{self.get_name()} {reports.describe(reason).splitlines()[0]}"
        self.engine.record("signal", source.cell.get_name(), detail)
        self.engine.add_event("signal", source, self, reason)
        super().exit_signal(source, reason, linked)


class DeterministicEngine(Engine):
    """Runs processes under `seed`. With `trace` it records every step as `(ms, what, who, detail)`."""

    def __init__(self, seed: int = 0, *, trace: bool = False, choices: Sequence[int] | None = None) -> None:
        super().__init__()
        self.seed = seed
        self.random = random.Random(seed)
        # The scheduler's choices; after the last one it takes the process that has waited longest.
        self._script = choices
        self.choices: list[int] = []  # the choices made, where there was more than one
        self.turn_messages = 1
        self._now = 0.0
        self._loop = VirtualLoop(self)
        self.loop = self._loop
        self.steps = 0
        self.trace: list[tuple[float, str, str, str]] | None = [] if trace else None
        self.sent: list[tuple[Pid | None, Pid, Any]] = []  # (sender, receiver, message), if traced
        self.events: list[Event] = []  # messages, signals and exits in order, if traced
        self.on_exit.append(self._trace_exit)
        if trace:
            self.cell_class = TracedCell
            renumber_refs()
        engines.set_default(self)

    def now(self) -> float:
        return self._now

    def set_now(self, now: float) -> None:
        """Sets the clock, in seconds, for the engines of a cluster."""
        self._now = now

    def unique_bytes(self, size: int) -> bytes:
        return self.random.randbytes(size)

    def record(self, what: str, who: Any, detail: str = "") -> None:
        """Adds a line to the trace."""
        if self.trace is not None:
            # Addresses of Python objects differ from run to run.
            self.trace.append((round(self._now * 1000, 3), what, str(who), _ADDRESS.sub("", detail)))

    def add_event(self, kind: str, source: Pid | None, target: Pid, content: Any) -> None:
        """Adds an event for a chart, with its text, as a message may change later."""
        if self.trace is not None:
            who = "" if source is None else source.cell.get_name()
            shown = reports.text(content) if kind == "send" else reports.describe(content).partition("\n")[0]
            self.events.append(
                Event(round(self._now * 1000, 3), kind, who, target.cell.get_name(), _ADDRESS.sub("", shown))
            )

    def _choose(self, count: int) -> int:
        if count == 1:
            return 0
        if self._script is None:
            choice = self.random.randrange(count)
        else:
            made = len(self.choices)
            choice = self._script[made] % count if made < len(self._script) else 0
        self.choices.append(choice)
        return choice

    def _trace_exit(self, pid: Pid, reason: Any) -> None:
        self.add_event("exit", None, pid, reason)
        self.record("exit", pid.cell.get_name(), reports.describe(reason).splitlines()[0])

    def _step(self) -> bool:
        """One turn of one runnable, chosen by the seed.

        The callbacks of asyncio count as one runnable, and so do the timers that are due; both keep their order.
        """
        self.run_unwinding()
        runnable = self.queue
        due = self.timers.next()
        ready, ringing = self._loop.is_ready(), due is not None and due <= self._now
        count = len(runnable) + ready + ringing
        if count == 0:
            return False
        self.steps += 1
        choice = self._choose(count)
        if choice >= len(runnable):
            if ready and choice == len(runnable):
                return self._loop.run_ready() or True
            return self.timers.fire(self._now, 1) > 0
        cell = runnable[choice]
        del runnable[choice]
        if self.trace is not None:
            self.record("run", cell.get_name())
        cell.turn()
        return True

    def step(self) -> bool:
        """One turn, for a cluster; False if nothing is runnable."""
        previous = events._get_running_loop()
        events._set_running_loop(self._loop)
        engines.set_default(self)
        try:
            return self._step()
        finally:
            events._set_running_loop(previous)

    def run(self, max_steps: int = 1_000_000) -> int:
        """Runs until nothing is runnable; no time passes. Returns the number of steps. Raises RuntimeError after `max_steps`."""
        previous = events._get_running_loop()
        events._set_running_loop(self._loop)
        engines.set_default(self)
        start = self.steps
        try:
            while self._step():
                if self.steps - start > max_steps:
                    raise RuntimeError(f"still running after {max_steps} steps (seed {self.seed})")
            return self.steps - start
        finally:
            events._set_running_loop(previous)

    def advance(self, ms: float) -> None:
        """Advances the virtual clock by `ms`; everything due at one time runs to completion before the next.

        Raises Error("badarg") if `ms` is not a duration.
        """
        check_duration(ms)
        until = self._now + ms / 1000
        self.run()
        while (due := self.timers.next()) is not None and due <= until + 1e-9:
            self._now = max(self._now, due)
            self.run()
        self._now = until

    def complete(self, awaitable: Awaitable[Any], *, limit_ms: float = 60_000) -> Any:
        """Runs, advancing time as needed, until `awaitable` is done; returns its result or raises its exception.

        Raises TimeoutError after `limit_ms` of virtual time, or when nothing is left that could complete it.
        """
        check_duration(limit_ms)

        async def body() -> Any:
            return await awaitable

        previous = events._get_running_loop()
        events._set_running_loop(self._loop)
        try:
            task = self._loop.create_task(body())
        finally:
            events._set_running_loop(previous)
        until = self._now + limit_ms / 1000
        self.run()
        while not task.done():
            due = self.timers.next()
            if due is None or due > until:
                task.cancel()
                self.run()
                raise TimeoutError(f"not done at {self._now * 1000:.0f} ms (seed {self.seed})")
            self._now = max(self._now, due)
            self.run()
        return task.result()

    def close(self) -> None:
        """Kills all processes, cancels pending tasks as `asyncio.run` does, and removes the default engine.

        Tasks are cancelled repeatedly, as a finally clause may wait for something that never comes, such as a reply of a crashed
        node.
        """
        for cell in reversed(list(self.table)):
            cell.terminate("killed")
        self.run()
        for _ in range(MAX_CANCELS):
            if not self._loop.cancel_tasks():
                break
            self.run()
        if engines.default_engine() is self:
            engines.set_default(None)
