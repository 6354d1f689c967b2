"""`gen_statem`'s loop data: queued events, postponed events and timers."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any

from runtime.core.process import Cell
from runtime.core.signals import NeverRefused
from runtime.core.timers import Timer
from runtime.otp.exact_key import exact
from runtime.otp.transition import (
    CancelTimeout,
    Event,
    EventTimeout,
    GenericTimeout,
    StateTimeout,
    TimeoutAction,
    UpdateTimeout,
    timeout_event,
)


class Expired(NeverRefused):
    """The message of a timer that has expired. Void if the timer was cancelled or restarted meanwhile."""

    __slots__ = ("content", "event", "timer")

    def __init__(self, event: Event, content: Any) -> None:
        self.event = event
        self.content = content
        self.timer: Timer | None = None  # None for a timeout of 0, which comes as soon as the queue is empty

    def __repr__(self) -> str:
        return f"Timeout({self.event!r}, {self.content!r})"


class LoopState:
    """The state, queued and postponed events and timers of one machine."""

    __slots__ = ("modules", "next_events", "postpone", "postponed", "queue", "state", "timeouts", "timers")

    def __init__(self, state: Any) -> None:
        self.state = state
        self.queue: deque[tuple[Event, Any]] = deque()  # events to handle before the next message
        self.postponed: deque[tuple[Event, Any]] = deque()  # oldest first
        self.timers: dict[Hashable, Expired] = {}  # by their exact event
        self.modules: list[type] = []  # the stack of PushCallbackModule and PopCallbackModule
        # the actions of the current transition:
        self.postpone = False
        self.next_events: list[tuple[Event, Any]] = []
        self.timeouts: list[TimeoutAction] = []

    def start(self, cell: Cell) -> None:
        """Performs the timeout actions of a transition; of several for one event only the last counts.

        As in gen_statem they are performed from the last to the first: of timers due at the same time the one of the last action
        fires first. Timeouts of 0 come in the order of their actions.
        """
        actions: dict[Hashable, TimeoutAction] = {}
        for action in reversed(self.timeouts):
            actions.setdefault(exact(timeout_event(action)), action)
        self.timeouts = []
        at_once: list[tuple[Event, Any]] = []
        for key, action in actions.items():
            event = timeout_event(action)
            match action:
                case (
                    CancelTimeout() | GenericTimeout(ms=None) | StateTimeout(ms=None) | EventTimeout(ms=None)
                ):
                    self.cancel(event)
                case UpdateTimeout(content=content):
                    if key in self.timers:
                        self.timers[key].content = content
                    else:
                        at_once.append((event, content))
                case EventTimeout(ms=0) | StateTimeout(ms=0) | GenericTimeout(ms=0):
                    at_once.append((event, action.content))
                case EventTimeout(ms=ms) | StateTimeout(ms=ms) | GenericTimeout(ms=ms):
                    assert ms is not None
                    self.cancel(event)
                    self.timers[key] = expired = Expired(event, action.content)
                    seconds = ms / 1000 - (cell.engine.now() if action.abs else 0)
                    expired.timer = cell.engine.call_later(max(0.0, seconds), cell.deliver, expired)
        for event, content in reversed(at_once):
            self.cancel(event)
            self.timers[exact(event)] = Expired(event, content)

    def cancel(self, event: Event) -> None:
        """Stops a timer; its `Expired` in the mailbox becomes void."""
        expired = self.timers.pop(exact(event), None)
        if expired is not None and expired.timer is not None:
            expired.timer.cancel()

    def next(self) -> tuple[Event, Any] | None:
        """The next event to handle before any message: a queued one, else a timeout of 0; None if there is none."""
        if self.queue:
            return self.queue.popleft()
        for key, expired in self.timers.items():
            if expired.timer is None:
                del self.timers[key]
                return expired.event, expired.content
        return None

    def change(self) -> None:
        """The state has changed: cancels the state timeout and queues the postponed events before all others."""
        self.cancel("state_timeout")
        while self.postponed:
            self.queue.appendleft(self.postponed.pop())
