"""The engine of a program without an event loop: it runs inside the calls that need it, in the caller's thread.

`SystemBase()` uses it for `ActorSystem.ask`, `tell` and `listen`. What is runnable runs straight from the run queue; only
to wait for a timer or for I/O does the engine's own asyncio loop run. One thread at a time executes processes, whichever
engine they belong to: `scheduler.current` is one for all.
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
    """`catch_up()`, `run()` and `wait()` are all there is to it."""

    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop())
        self._closing = False
        self.busy = False  # a thread runs processes right now
        _alive.add(self)
        self.scheduled = True  # nobody need schedule a run: whoever drives us looks into the queue

    def hand_over(self, caller: Cell, server: Cell) -> None:
        pass  # whoever drives looks for responses after each turn

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
        """What our processes sent to those of another system in this program is handled too, and what comes back."""
        again = True
        while again and not responses and time.monotonic() < until:
            again = False
            for engine in list(_alive):
                if engine is not self and engine.queue:
                    engine._run_queue(responses, until)
                    if engine.loop.is_running():  # its own driver waits for what we have just run
                        engine.loop.call_soon_threadsafe(engine.loop.stop)
                    again = bool(self.queue)
            if again:
                self._run_queue(responses, until)

    def catch_up(self, until: float) -> None:
        """Timers that came due while nobody drove us, and what they cause, come before anything new."""
        due = self.timers.next()
        if due is not None and due <= self.now():
            self.run((), until)

    def wait(self, seconds: float | None) -> None:
        """Waits for a timer, I/O or a wake-up from another thread, at most so long, and runs what became runnable."""
        loop = self.loop
        if scheduler.current is not None or loop.is_running() or asyncio._get_running_loop() is not None:
            # Called from an actor or from another loop's callback: no loop can run here, so only timers can help.
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
        """True if no process can become runnable within `seconds` from inside: no timer, no I/O, no asyncio task."""
        if self.queue or self._unwinding:
            return False
        due = self.timers.next()
        if due is not None and (seconds is None or due <= self.now() + seconds):
            return False
        return not any(cell.execution.coro is not None for cell in self.table) and not asyncio.all_tasks(
            self.loop
        )

    def close(self) -> None:
        """Kills what still lives, lets cancelled code clean up, and closes the loop."""
        self._closing = True
        _alive.discard(self)
        if not self.loop.is_running() and asyncio._get_running_loop() is None:
            stopping = self.loop.create_task(self.stop())
            stopping.add_done_callback(lambda _task: self.loop.stop())
            while not stopping.done():  # a thread's late wake-up may stop the loop early
                self.loop.run_forever()
            self.loop.close()

    def _run(self) -> None:
        with EXECUTING:
            super()._run()
        if not self._closing:
            self.loop.stop()  # back to whoever waits: the answer may be there

    def _fire(self) -> None:
        with EXECUTING:
            super()._fire()
