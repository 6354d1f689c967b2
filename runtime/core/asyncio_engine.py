"""The production engine: processes share an asyncio (uvloop) loop with sockets and the database.

The loop runs processes in slices of at most SLICE_SECONDS. At the end of a slice the tasks outside of processes whose replies
have come continue; then the loop serves its other callbacks.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from math import ceil
from time import monotonic, perf_counter
from typing import Any, Final

from runtime.core import engine as engines
from runtime.core import reports, telemetry
from runtime.core.control_block import UNSET
from runtime.core.engine import Engine
from runtime.core.exits import Unwind
from runtime.core.modes import DEAD, RUNNING
from runtime.core.process import TURN_SECONDS, Cell
from runtime.core.scheduling import scheduler

SLICE_SECONDS: Final = 0.001
LONG_SCHEDULE_SECONDS: Final = 0.05
CLEANUP_SECONDS: Final = 5.0  # how long `stop` waits for what the finally clauses of killed code await
MAX_HANDOVERS: Final = 8  # nested; each one takes some frames of Python's stack

_turn: Final = Cell.turn


class AsyncioEngine(Engine):
    """Runs processes on the running event loop. `start()` makes it the default engine.

    A turn longer than `long_schedule` seconds is reported, as by `erlang:system_monitor/2` with `long_schedule`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None = None, long_schedule: float = LONG_SCHEDULE_SECONDS
    ) -> None:
        super().__init__()
        self.loop = loop or asyncio.get_running_loop()
        self.long_schedule = long_schedule
        self.long_schedules = 0
        # A pool: each nested hand-over runs in a context of its own.
        self._contexts = [copy_context() for _ in range(MAX_HANDOVERS)]
        self._after_slice: deque[Callable[[], object]] = deque()
        self.scheduled = False
        self._queued_before = 0  # the length of the run queue when the turn began
        self._handle: asyncio.Handle | None = None
        self._wakes = 0.0  # when _handle is due; uvloop's handles do not say so for a time in the past
        self._stopped = False

    # The loop's clock too, which uvloop truncates to milliseconds.
    now = staticmethod(monotonic)  # pyright: ignore[reportAssignmentType] - a method would be a call more

    def start(self) -> AsyncioEngine:
        """Makes this the engine of calls to `erlang.spawn` and the like from outside of processes."""
        engines.set_default(self)
        return self

    async def stop(self) -> None:
        """Kills all processes, the youngest first, and waits up to CLEANUP_SECONDS while their code cleans up."""
        self._stopped = True
        for cell in reversed(list(self.table)):
            cell.terminate("killed")
        while self._unwinding:
            await asyncio.sleep(0)
        if self._cleaning:
            await asyncio.wait(self._cleaning, timeout=CLEANUP_SECONDS)
        await asyncio.sleep(0)
        if self._handle is not None:
            self._handle.cancel()
        if engines.default_engine() is self:
            engines.set_default(None)

    def report_crash(self, cell: Cell, reason: Any) -> None:
        if not self._stopped:  # killed by stop(): not a crash
            super().report_crash(cell, reason)

    def kick(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self._run, context=self.context)

    def resume(self, cell: Cell, wait: Any) -> None:
        if self.scheduled:
            cell.wake(wait)
            return
        self.scheduled = True  # run the slice now: a callback of its own would cost an iteration of the loop
        cell.wake(wait)
        self._run()

    def _run(self) -> None:
        queue, after_slice = self.queue, self._after_slice
        self.turn_began = perf_counter()
        until = self.turn_began + SLICE_SECONDS
        long = self.long_schedule
        scheduler.after_slice = after_slice
        try:
            if self._unwinding:
                self.run_unwinding()
            while queue:
                cell = queue.popleft()
                self._queued_before = len(queue)
                cell.turn()
                after = perf_counter()
                if after - self.turn_began > long:
                    self._report_long_schedule(cell, after - self.turn_began)
                if after > until:
                    break
                self.turn_began = after
            scheduler.after_slice = None
            while after_slice:
                after_slice.popleft()()
        finally:
            scheduler.after_slice = None
            if queue or after_slice or self._unwinding:
                self.loop.call_soon(self._run, context=self.context)
            else:
                self.scheduled = False

    def hand_over(self, caller: Cell, server: Cell, in_order: bool = False) -> None:
        # As if the server had preempted the caller. What the caller sent to others before may be handled later: Erlang orders
        # messages between two processes only. A start waits for these: its successor must not be known before the end of a
        # process is. The end may have queued the caller as well, so a start overtakes others only within a hand-over.
        execution, contexts, queue = caller.execution, self._contexts, self.queue
        before = perf_counter()
        if (
            execution.mode != RUNNING
            or execution.pending_signals is not UNSET  # handled when it waits
            or execution.engine is not self
            or not contexts
            or before - self.turn_began > TURN_SECONDS
            or (in_order and (len(contexts) == MAX_HANDOVERS or len(queue) > self._queued_before + 1))
        ):
            return
        last = queue.pop()
        if last is not server:
            queue.append(last)
            return
        loop, context = self.loop, contexts.pop()
        _leave_task(loop, caller)  # type: ignore[arg-type]
        scheduler.entered = None
        try:
            context.run(_turn, server)
        finally:
            _enter_task(loop, caller)  # type: ignore[arg-type]
            scheduler.current = scheduler.entered = caller
            contexts.append(context)
        after = perf_counter()
        if after - before > self.long_schedule:
            # Servers that it handed over to are reported already.
            spent = after - max(before, self.turn_began)
            if spent > self.long_schedule:
                self._report_long_schedule(server, spent)
                self.turn_began = after  # the time was not the caller's
        if caller.execution.mode == DEAD:  # ended by the server's turn, while its code was on the stack
            raise Unwind

    def _report_long_schedule(self, cell: Cell, seconds: float) -> None:
        self.long_schedules += 1
        reports.long_schedule(cell, seconds)
        telemetry.execute(
            ("runtime", "long_schedule"), {"duration": seconds}, {"pid": cell, "name": cell.relations.name}
        )

    def timers_changed(self) -> None:
        due = self.timers.next()
        assert due is not None
        handle = self._handle
        if handle is None or self._wakes > due:
            if handle is not None:
                handle.cancel()
            self._wakes = due
            # Rounded up: uvloop rounds to milliseconds, and a wake-up just before `due` would spin until then.
            self._handle = self.loop.call_later(ceil((due - monotonic()) * 1000) / 1000, self._fire)

    def _fire(self) -> None:
        self._handle = None
        self.timers.fire(monotonic())
        # `timers_changed` does nothing if a callback has already set a timer and with it the wake-up.
        if self.timers.next() is not None and not self._stopped:
            self.timers_changed()
