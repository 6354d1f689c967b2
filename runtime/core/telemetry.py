"""Telemetry events, as Erlang's `telemetry`: whoever measures executes, whoever listens attaches.

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
_spans: dict[Event, Span] = {}


def attach(handler_id: str, event: Event, handler: Handler) -> None:
    """Calls `handler(event, measurements, metadata)` at each execution. Raises ValueError if the id is taken."""
    handlers = _handlers.setdefault(event, {})
    if handler_id in handlers:
        raise ValueError(f"telemetry handler {handler_id!r} is attached to {event} already")
    handlers[handler_id] = handler
    _look(event)


def detach(handler_id: str) -> None:
    """Takes a handler back from all its events."""
    for event in list(_handlers):
        _handlers[event].pop(handler_id, None)
        if not _handlers[event]:
            del _handlers[event]
            _look(event)


def _look(event: Event) -> None:
    if (kind := _spans.get(event[:-1])) is not None:
        kind.look()


def execute(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Tells the handlers. One that raises is detached, as in Erlang: measuring must not break what is measured."""
    handlers = _handlers.get(event)
    if not handlers:
        return
    for handler_id, handler in list(handlers.items()):
        try:
            handler(event, measurements, metadata)
        except Exception:
            logging.getLogger("runtime").exception("telemetry handler %s failed and is detached", handler_id)
            detach(handler_id)


def attached(event: Event) -> bool:
    """True if anybody listens: lets a hot path skip gathering what nobody reads."""
    return event in _handlers


class Span:
    """A kind of work that takes time (`telemetry:span/3`): `start`, then `stop` or `exception`, both with `duration` in seconds.

    One object for each kind, made where the work is done. Ask `active` before anything is gathered: where nobody listens, a
    span costs the test of that one name. Metadata of all three events has `span`, the same object for one piece of work.
    """

    __slots__ = ("active", "name")

    def __init__(self, *name: str) -> None:
        self.name: Event = name
        _spans[name] = self
        self.active = False
        self.look()

    def look(self) -> None:
        """Somebody has come or gone."""
        self.active = any((*self.name, at) in _handlers for at in ("start", "stop", "exception"))

    def start(self, metadata: Mapping[str, Any], measurements: Mapping[str, Any] | None = None) -> Running:
        """The work begins; say `stop` or `exception` of what is returned."""
        running = Running(self.name, metadata)
        execute((*self.name, "start"), measurements or {}, running.metadata)
        return running

    def ended(self, duration: float, metadata: Mapping[str, Any], error: BaseException | None = None) -> None:
        """Work that somebody else has measured is done, after `duration` seconds."""
        if error is None:
            execute((*self.name, "stop"), {"duration": duration}, metadata)
        else:
            execute((*self.name, "exception"), {"duration": duration}, {**metadata, "reason": error})


class Running:
    """One piece of work under way."""

    __slots__ = ("_began", "_name", "metadata")

    def __init__(self, name: Event, metadata: Mapping[str, Any]) -> None:
        self._name = name
        self.metadata = {**metadata, "span": self}
        self._began = perf_counter()

    def stop(self, **metadata: Any) -> None:
        """It is done; what is known only now joins the metadata."""
        duration = perf_counter() - self._began
        execute((*self._name, "stop"), {"duration": duration}, {**self.metadata, **metadata})

    def exception(self, reason: Any) -> None:
        """It has failed."""
        duration = perf_counter() - self._began
        execute((*self._name, "exception"), {"duration": duration}, {**self.metadata, "reason": reason})
