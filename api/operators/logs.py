"""Logging by structlog: JSON lines in prod, readable text elsewhere, all on standard error.

Every line has time, level, logger and event; lines of a process have its pid and name, lines of a request its id and user. The
runtime's reports are printed in SASL's format, in JSON as an object under `report`. Secrets are masked as in the console.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter

from actors.settings import Settings
from api.http.throttle import MAX_KEYS, Bucket
from runtime import Report
from runtime.observe import process_info, term
from runtime.observe.sasl_format import sasl_format

if TYPE_CHECKING:
    from api.context import ApiRequest

current_request: ContextVar[ApiRequest | None] = ContextVar("current_request", default=None)

Event = MutableMapping[str, Any]

MAX_EVENT = 4_000  # characters of one line
# Loggers whose lines clients can cause.
CLIENTS = ("runtime.http", "runtime.phoenix", "api.access.errors", "api.errors")
BURST, RATE = 50, 5.0  # lines at once, then lines a second


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Configures logging: lines from LOG_LEVEL up go to `stream`, by default standard error. Replaces earlier handlers."""
    out = stream or sys.stderr
    renderer: Any = _json if settings.production else _Readable(out)
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                _stamp,
                _who,
                _extra,
            ],
            processors=[ProcessorFormatter.remove_processors_meta, _mask, renderer],
        )
    )
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())


def _stamp(logger: Any, method: str, event: Event) -> Event:
    record: logging.LogRecord = event["_record"]
    event["at"] = datetime.fromtimestamp(record.created, UTC)
    return event


def _who(logger: Any, method: str, event: Event) -> Event:
    pid = process_info.running()
    if pid is not None:
        # A process may run in the context of a request that woke the engine: `current_request` is then not its own.
        event["pid"] = str(pid)
        name = process_info.name(pid)
        if name is not None:
            event["process"] = name
        return event
    request = current_request.get()
    if request is not None:
        event["request_id"] = request.request_id
        if request.has_principal:
            event["user"] = request.principal.subject
    return event


def _extra(logger: Any, method: str, event: Event) -> Event:
    record = event["_record"]
    for name in ("report", "audit", "request_id", "access"):
        if (value := getattr(record, name, None)) is not None:
            event[name] = value
    if "report" in event:  # the rest of the text follows in SASL's format
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


def _mask(logger: Any, method: str, event: Event) -> Event:
    # Clipped before masking: text from clients may be long, and masking searches it.
    event["event"] = term.mask(term.clip(str(event["event"]), MAX_EVENT))
    return event


class RateLimit(logging.Filter):
    """Limits the lines that one client can cause in each logger: `BURST` at once, then `RATE` a second.

    Errors always pass. Suppressed lines are counted, and the count is appended to the next line of that client.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bucket = Bucket(BURST, RATE)
        self._left_out: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write this record."""
        if record.levelno >= logging.ERROR or not record.name.startswith(CLIENTS):
            return True
        request = current_request.get()
        access = getattr(record, "access", None)  # its line may be written when no request is current
        caller = access["client"] if access is not None else "" if request is None else request.caller
        key = (record.name, caller)
        if self._bucket.take(key) > 0:
            if len(self._left_out) < MAX_KEYS:
                self._left_out[key] = self._left_out.get(key, 0) + 1
            return False
        left_out = self._left_out.pop(key, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} similar lines suppressed)", ()
        return True


def _traceback(event: Event) -> str | None:
    found = event.pop("exc_info", None)
    if not found or found is True:
        return None
    return term.mask(term.clip(logging.Formatter().formatException(found), 16 * MAX_EVENT))


def _json(logger: Any, method: str, event: Event) -> str:
    at: datetime = event.pop("at")
    line: dict[str, Any] = {
        "timestamp": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": event.pop("level"),
        "logger": event.pop("logger", ""),
        "event": event.pop("event"),
    }
    traceback = _traceback(event)
    report = event.pop("report", None)
    if isinstance(report, Report):
        line["report"] = {**term.show({k: v for k, v in report.as_dict().items() if k != "reason"})}
        line["report"]["reason"] = None if report.reason is None else term.mask(report.as_dict()["reason"])
        line["sasl"] = sasl_format(report, at)
    line.update(event)
    if traceback:
        line["exception"] = traceback
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _Readable:
    """Renders text for people, with colours on a terminal."""

    LEVELS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}

    def __init__(self, stream: TextIO) -> None:
        self.colours = stream.isatty()

    def __call__(self, logger: Any, method: str, event: Event) -> str:
        at = event.pop("at").astimezone()
        level = event.pop("level")
        report = event.pop("report", None)
        traceback = _traceback(event)
        head = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"
        shown = f"{level.upper():<8}"
        if self.colours:
            shown = f"\x1b[{self.LEVELS.get(level, '0')}m{shown}\x1b[0m"
        name, text = event.pop("logger", ""), event.pop("event")
        event.pop("audit", None)
        event.pop("access", None)
        rest = "".join(f" {key}={value}" for key, value in event.items())
        line = f"{head} {shown} {name}: {text}{rest}"
        if isinstance(report, Report):
            line = f"{line}\n{sasl_format(report, at)}"
        return f"{line}\n{traceback}" if traceback else line
