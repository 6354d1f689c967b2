"""The engine for programs without an event loop: it runs inside the calls that need it, in the caller's thread.

`SystemBase()` uses it for `ActorSystem.ask`, `tell` and `listen`. Processes run directly from the run queue; the engine's asyncio
loop runs only to wait for a timer or for I/O. One thread at a time executes processes of all engines, which share one
`scheduler`.
"""

from __future__ import annotations

import asyncio
import time
from threading import RLock
from typing import Final
from weakref import WeakSet

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler

EXECUTING: Final = RLock()
_TURNS_BETWEEN_LOOKS: Final = 64
_NESTED_WAIT: Final = 0.005  # seconds


_alive: WeakSet[DrivenEngine] = WeakSet()


class DrivenEngine(AsyncioEngine):
    """Driven by `catch_up()`, `run()` and `wait()`, which the driving thread calls."""

    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop())
        self._closing = False
        self.busy = False  # a thread is running processes
        _alive.add(self)
        self.scheduled = True  # no `kick` needed: the driving thread checks the queue

    def hand_over(self, caller: Cell, server: Cell) -> None:
        pass  # the driving thread checks for responses after each turn

    def run(self, responses: object, until: float) -> None:
        """Runs processes until `responses` is not empty, nothing is runnable, or `time.monotonic()` reaches `until`."""
        with EXECUTING:
            outer = scheduler.current  # an actor may call ask() itself
            scheduler.current = None
            self.busy = True
            try:
                self._run_queue(responses, until)
                if len(_alive) > 1 and not responses:
                    self._run_others(responses, until)
            finally:
                self.busy = False
                scheduler.current = outer

    def _run_queue(self, responses: object, until: float) -> None:
        if self._unwinding:
            self.run_unwinding()
        self._fire_due()
        queue = self.queue
        self.turn_began = 0.0
        turns = 0
        while queue:
            queue.popleft().turn()
            if responses:
                return
            turns += 1
            if turns % _TURNS_BETWEEN_LOOKS == 0:
                if time.monotonic() >= until:
                    return
                self._fire_due()

    def _fire_due(self) -> None:
        if self.timers:
            self.timers.fire(self.now())

    def _run_others(self, responses: object, until: float) -> None:
        """Runs the engines of other systems in this program for messages from and to their processes."""
        again = True
        while again and not responses and time.monotonic() < until:
            again = False
            for engine in list(_alive):
                if engine is not self and engine.queue:
                    engine._run_queue(responses, until)
                    if engine.loop.is_running():  # its own driver is waiting
                        engine.loop.call_soon_threadsafe(engine.loop.stop)
                    again = bool(self.queue)
            if again:
                self._run_queue(responses, until)

    def catch_up(self, until: float) -> None:
        """Runs the timers that were due while the engine was not driven, before anything new."""
        due = self.timers.next()
        if due is not None and due <= self.now():
            self.run((), until)

    def wait(self, seconds: float | None) -> None:
        """Waits up to `seconds` for a timer, I/O or a wake-up by another thread, and runs what becomes runnable."""
        loop = self.loop
        if scheduler.current is not None or loop.is_running() or asyncio._get_running_loop() is not None:
            # Called by an actor or a callback of another loop, where no loop can run: only timers can be waited for.
            time.sleep(_NESTED_WAIT if seconds is None else max(0.0, min(_NESTED_WAIT, seconds)))
            return
        self.scheduled = False
        if self.queue or self._unwinding:
            self.kick()
        handle = None if seconds is None else loop.call_later(max(0.0, seconds), loop.stop)
        try:
            loop.run_forever()
        finally:
            self.scheduled = True
            if handle is not None:
                handle.cancel()

    def waits_for_nothing(self, seconds: float | None) -> bool:
        """True if nothing in this engine can become runnable within `seconds`: no timer, no I/O, no asyncio task."""
        if self.queue or self._unwinding:
            return False
        due = self.timers.next()
        if due is not None and (seconds is None or due <= self.now() + seconds):
            return False
        return not any(cell.execution.coro is not None for cell in self.table) and not asyncio.all_tasks(
            self.loop
        )

    def close(self) -> None:
        """Kills all processes, lets their code clean up, and closes the loop."""
        self._closing = True
        _alive.discard(self)
        if not self.loop.is_running() and asyncio._get_running_loop() is None:
            stopping = self.loop.create_task(self.stop())
            stopping.add_done_callback(lambda _task: self.loop.stop())
            while not stopping.done():  # a late wake-up by a thread may stop the loop early
                self.loop.run_forever()
            self.loop.close()

    def _run(self) -> None:
        with EXECUTING:
            super()._run()
        if not self._closing:
            self.loop.stop()  # returns to the waiting thread, as there may be a response

    def _fire(self) -> None:
        with EXECUTING:
            super()._fire()
