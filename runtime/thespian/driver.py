"""The threads of an actor system: which one runs the actors, and how others pass work to it and wait.

With a `DrivenEngine` a thread that asks runs the actors itself, one thread at a time; other threads put actions into an inbox.
With an engine on a running loop, that loop runs the actors and the actions.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from threading import Condition, RLock
from typing import Any, Final

from thespian.system.timing import timePeriodSeconds, toTimeDeltaOrNone

from runtime.core.engine import Engine
from runtime.thespian.driven_engine import DrivenEngine
from runtime.thespian.external_ports import Port

_SLICE: Final = 0.01  # seconds of running between two checks of inbox and loop
_TELL_LIMIT: Final = 1.0  # seconds that a tell runs the actors
_BUSY_STRETCH: Final = 10  # times a timeout, at most, while actors are runnable
_RETRY_SECONDS: Final = 0.05  # after which a waiting thread tries to run the actors itself


class Driver:
    """The threads of one actor system. All methods may be called in any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._own = engine if isinstance(engine, DrivenEngine) else None
        self._inbox: deque[Callable[[], Any]] = deque()
        self._turn = RLock()  # held by the thread that runs a DrivenEngine
        self._changed = Condition()
        self.contexts = 0  # private contexts, whose threads may send at any time

    def ask(self, port: Port, send: Callable[[], Any], timeout: Any) -> Any:
        """Calls `send` where the actors run and listens at the port."""
        own = self._own
        if own is not None and self._turn.acquire(blocking=False):  # the common case, inlined
            try:
                until = time.monotonic() + _SLICE
                own.catch_up(until)
                send()
                own.run(port.responses, until)
                if port.responses and not self._inbox:
                    return port.responses.popleft()
            finally:
                self._turn.release()
        else:
            self.post(send)
        return self.listen(port, timeout)

    def listen(self, port: Port, timeout: Any) -> Any:
        """Waits for the next message to a port: None after `timeout`, or when no message can come any more.

        The waiting thread runs a DrivenEngine, unless another one does. While actors are runnable the timeout is extended, at
        most _BUSY_STRETCH times.
        """
        seconds = None if timeout is None else timePeriodSeconds(toTimeDeltaOrNone(timeout))
        started = time.monotonic()
        deadline = None if seconds is None else started + seconds
        limit = None if seconds is None else started + seconds * _BUSY_STRETCH
        if self._on_loop():
            raise RuntimeError(
                "ask and listen would block the loop that the actors run on: await request(...)"
            )
        while not port.responses:
            left = None
            if deadline is not None and limit is not None:
                now = time.monotonic()
                busy = self._own is not None and (self._own.busy or bool(self._own.queue))
                left = (limit if busy else deadline) - now
                if left <= 0 and now > started:
                    return None
            if self._own is not None and self._turn.acquire(blocking=False):
                try:
                    self._drive(port, limit)
                    if not port.responses and not self.contexts and self._own.waits_for_nothing(left):
                        return None
                    if not port.responses and not self._inbox:
                        self._own.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
                finally:
                    self._turn.release()
                    self.tell_waiting()
            else:
                with self._changed:
                    port.waiting = True
                    if not port.responses:
                        self._changed.wait(_RETRY_SECONDS if left is None else min(left, _RETRY_SECONDS))
                    port.waiting = False
        return port.responses.popleft()

    def close(self, done: Callable[[], bool], seconds: float) -> None:
        """Runs the actors until `done()`, for at most `seconds`, and closes a DrivenEngine."""
        own = self._own
        if own is None:
            return
        limit = time.monotonic() + seconds
        while not done() and time.monotonic() < limit:
            self._drive(None, limit)
            if own.waits_for_nothing(limit - time.monotonic()):
                break
        with self._turn:
            own.close()

    def _on_loop(self) -> bool:
        return self._own is None and asyncio._get_running_loop() is self._engine.loop

    def post(self, action: Callable[[], Any]) -> None:
        """Runs `action` in the thread that runs the actors, now or later."""
        if self._on_loop():
            action()
            return
        self._inbox.append(action)
        if self._own is None:
            self._engine.loop.call_soon_threadsafe(self._take_inbox)
        elif self._turn.acquire(blocking=False):
            try:
                self._take_inbox()
            finally:
                self._turn.release()
        else:
            self._engine.loop.call_soon_threadsafe(self._engine.loop.stop)

    def _take_inbox(self) -> None:
        if self._own is not None:
            self._own.catch_up(time.monotonic() + _SLICE)
        while self._inbox:
            self._inbox.popleft()()

    def execute(self, function: Callable[[], Any]) -> Any:
        """Runs `function` where the actors run and returns its result (or raises)."""
        if self._own is not None and self._turn.acquire(blocking=False):
            try:
                return function()
            finally:
                self._turn.release()
        if self._on_loop():
            return function()
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append((function(), None))
            except BaseException as error:
                outcome.append((None, error))
            self.tell_waiting()

        self.post(run)
        while not outcome:
            with self._changed:
                self._changed.wait(0.01)
            if self._own is not None and self._turn.acquire(blocking=False):
                try:
                    self._take_inbox()
                finally:
                    self._turn.release()
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    def run_all(self) -> None:
        """Runs the actors until they are idle, for at most a second."""
        if self._own is not None and self._turn.acquire(blocking=False):
            try:
                self._drive(None, time.monotonic() + _TELL_LIMIT)
            finally:
                self._turn.release()
                self.tell_waiting()

    def _drive(self, port: Port | None, deadline: float | None) -> None:
        """Runs the actors until `port` has a response or they are idle."""
        assert self._own is not None
        responses: Iterable[Any] = () if port is None else port.responses
        while True:
            self._take_inbox()
            until = time.monotonic() + _SLICE
            self._own.run(responses, until if deadline is None else min(until, deadline))
            if responses or not (self._own.queue or self._inbox):
                return
            if deadline is not None and time.monotonic() >= deadline:
                return
            self._own.wait(0)  # runs timers and I/O
            self.tell_waiting()

    def tell_waiting(self) -> None:
        """Wakes the threads that wait for a response or to run the actors."""
        with self._changed:
            self._changed.notify_all()
