"""Telemetry events, as Erlang's `telemetry`: whoever measures executes, whoever listens attaches.

Events are tuples of strings; `docs/telemetry.md` lists every one with its measurements and metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

Event = tuple[str, ...]
Handler = Callable[[Event, Mapping[str, Any], Mapping[str, Any]], None]

_handlers: dict[Event, dict[str, Handler]] = {}


def attach(handler_id: str, event: Event, handler: Handler) -> None:
    """Calls `handler(event, measurements, metadata)` at each execution. Raises ValueError if the id is taken."""
    handlers = _handlers.setdefault(event, {})
    if handler_id in handlers:
        raise ValueError(f"telemetry handler {handler_id!r} is attached to {event} already")
    handlers[handler_id] = handler


def detach(handler_id: str) -> None:
    """Takes a handler back from all its events."""
    for event in list(_handlers):
        _handlers[event].pop(handler_id, None)
        if not _handlers[event]:
            del _handlers[event]


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


@contextmanager
def span(event: Event, metadata: Mapping[str, Any]) -> Generator[None, None, None]:
    """Executes `event + ("stop",)` with `duration` in seconds, or `event + ("exception",)` if the block raises."""
    start = perf_counter()
    try:
        yield
    except BaseException as exc:
        execute((*event, "exception"), {"duration": perf_counter() - start}, {**metadata, "reason": exc})
        raise
    execute((*event, "stop"), {"duration": perf_counter() - start}, metadata)
