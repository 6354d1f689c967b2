"""Telemetry events, as Erlang's `telemetry`: code executes events, handlers attach to them.

Events are tuples of strings; `docs/telemetry.md` lists every one with its measurements and metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

Event = tuple[str, ...]
Handler = Callable[[Event, Mapping[str, Any], Mapping[str, Any]], None]

_handlers: dict[Event, dict[str, Handler]] = {}
_listening: dict[Event, tuple[tuple[str, Handler], ...]] = {}  # the same, as `execute` reads it
_spans: dict[Event, Span] = {}


def attach(handler_id: str, event: Event, handler: Handler) -> None:
    """Calls `handler(event, measurements, metadata)` at each execution. Raises ValueError if the id is taken."""
    handlers = _handlers.setdefault(event, {})
    if handler_id in handlers:
        raise ValueError(f"telemetry handler {handler_id!r} is attached to {event} already")
    handlers[handler_id] = handler
    _changed(event)


def detach(handler_id: str) -> None:
    """Removes a handler from all events it is attached to."""
    for event in list(_handlers):
        if _handlers[event].pop(handler_id, None) is not None:
            if not _handlers[event]:
                del _handlers[event]
            _changed(event)


def _changed(event: Event) -> None:
    if handlers := _handlers.get(event):
        _listening[event] = tuple(handlers.items())
    else:
        _listening.pop(event, None)
    if (kind := _spans.get(event[:-1])) is not None:
        kind.look()


def execute(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Calls the attached handlers. One that raises is detached, as in Erlang: measuring must not break what is measured."""
    for handler_id, handler in _listening.get(event, ()):
        try:
            handler(event, measurements, metadata)
        except Exception:
            logging.getLogger("runtime").exception("telemetry handler %s failed and is detached", handler_id)
            detach(handler_id)


def attached(event: Event) -> bool:
    """True if the event has a handler: a hot path skips gathering metadata when it has none."""
    return event in _listening


class Span:
    """A kind of work that takes time (`telemetry:span/3`): `start`, then `stop` or `exception`, both with `duration` in seconds.

    Each kind of work has one `Span`, a constant of the module that does the work. Test `active` before gathering metadata: with
    no handler attached a span costs that one test. While no handler is attached to the start event (`start_attached` is
    False), the caller may measure the work itself and report it with `ended`. The metadata of the three events of one piece of
    work have the same object under `span`.
    """

    __slots__ = ("_exception", "_stop", "active", "name", "start_attached")

    def __init__(self, *name: str) -> None:
        self.name: Event = name
        self._stop, self._exception = (*name, "stop"), (*name, "exception")
        _spans[name] = self
        self.active = self.start_attached = False
        self.look()

    def look(self) -> None:
        """Handlers were attached or detached."""
        self.start_attached = (*self.name, "start") in _listening
        self.active = self.start_attached or self._stop in _listening or self._exception in _listening

    def start(self, metadata: Mapping[str, Any], measurements: Mapping[str, Any] | None = None) -> Running:
        """Executes the start event. Call `stop` or `exception` on the result when the work is done."""
        running = Running(self.name, metadata)
        execute((*self.name, "start"), measurements or {}, running.metadata)
        return running

    def ended(self, duration: float, metadata: Mapping[str, Any], error: BaseException | None = None) -> None:
        """Executes the stop event, or with `error` the exception event, of work that took `duration` seconds."""
        if error is None:
            execute(self._stop, {"duration": duration}, metadata)
        else:
            execute(self._exception, {"duration": duration}, {**metadata, "reason": error})


class Running:
    """One piece of work in progress."""

    __slots__ = ("_began", "_name", "metadata")

    def __init__(self, name: Event, metadata: Mapping[str, Any]) -> None:
        self._name = name
        self.metadata = {**metadata, "span": self}
        self._began = perf_counter()

    def stop(self, **metadata: Any) -> None:
        """Executes the stop event, with `metadata` that is known only now."""
        duration = perf_counter() - self._began
        execute((*self._name, "stop"), {"duration": duration}, {**self.metadata, **metadata})

    def exception(self, reason: Any) -> None:
        """Executes the exception event."""
        duration = perf_counter() - self._began
        execute((*self._name, "exception"), {"duration": duration}, {**self.metadata, "reason": reason})
