"""Reports as text in the format of Erlang's SASL.

    =CRASH REPORT==== 24-Nov-2026::16:09:02.273 ===
      crasher:
        initial call: actors.ledger.writer:DbWriter
        pid: <0.7.0>
        registered_name: db_writer
        exception exit: killed
        ancestors: [storage, root]

Secrets in reasons and messages are masked.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from runtime.core.exits import Stack
from runtime.core.reports import Report, describe
from runtime.observe import term

TITLES: Final = {
    "crash": "CRASH REPORT",
    "supervisor": "SUPERVISOR REPORT",
    "progress": "PROGRESS REPORT",
    "long_schedule": "LONG SCHEDULE",
}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def sasl_format(report: Report, at: datetime) -> str:
    """The report as several lines, without a trailing line break."""
    stamp = f"{at.day}-{_MONTHS[at.month - 1]}-{at.year}::{at:%H:%M:%S}.{at.microsecond // 1000:03}"
    head = f"={TITLES.get(report.kind, report.kind.upper())}==== {stamp} ==="
    return "\n".join([head, *_lines(report)])


def _lines(report: Report) -> list[str]:
    match report.kind:
        case "crash":
            return ["  crasher:", *_crash(report)]
        case "supervisor" | "progress":
            return _supervisor(report)
        case "long_schedule":
            seconds = report.context.get("seconds", 0.0)
            lines = [
                f"    process: {_who(report)} {report.module}",
                f"    held the loop for: {seconds * 1000:.0f} ms",
            ]
            return lines + _message(report)
        case _:
            return [f"    process: {_who(report)} {report.module}", *_reason("reason", report.reason)]


def _crash(report: Report) -> list[str]:
    name = [f"    registered_name: {report.name}"] if report.name else []
    error = _is_error(report.reason)
    return [
        f"    initial call: {report.module}",
        f"    pid: {report.pid}",
        *name,
        *_reason(f"exception {'error' if error else 'exit'}", report.reason),
        f"    ancestors: [{', '.join(report.ancestors)}]",
        *_message(report),
    ]


def _supervisor(report: Report) -> list[str]:
    context = report.context
    lines = [f"    supervisor: {_who(report)}"]
    if report.kind == "supervisor":
        lines.append(f"    errorContext: {context.get('error')}")
        lines += _reason("reason", report.reason)
    word = "offender" if report.kind == "supervisor" else "started"
    return [*lines, f"    {word}: [pid: {context.get('child_pid')}, id: {context.get('child')}]"]


def _who(report: Report) -> str:
    return f"{report.pid} ({report.name})" if report.name else report.pid


def _is_error(reason: Any) -> bool:
    return isinstance(reason, tuple) and len(reason) == 2 and isinstance(reason[1], Stack)


def _reason(word: str, reason: Any) -> list[str]:
    first, *rest = term.mask(describe(reason)).splitlines() or [""]
    return [f"    {word}: {first}", *(f"      {line}" for line in rest)]


def _message(report: Report) -> list[str]:
    return [] if report.message is None else [f"    last message: {term.mask(report.message)}"]
