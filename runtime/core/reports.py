"""SASL reports: crash, supervisor and progress reports, and long schedules.

Each is a `Report` sent to the logger `runtime.reports` (attribute `report` of the log record) and to telemetry as
`("runtime", "report")`. Nothing is formatted if neither is enabled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import isroutine
from typing import TYPE_CHECKING, Any

from runtime.core import telemetry
from runtime.core.actor import FunctionProcess
from runtime.core.exits import Reported, Stack
from runtime.core.secret_text import mask

if TYPE_CHECKING:
    from runtime.core.process import Cell

log = logging.getLogger("runtime.reports")
EVENT = ("runtime", "report")


@dataclass(frozen=True, slots=True)
class Report:
    """One report. `kind` is crash, supervisor, progress or long_schedule."""

    kind: str
    pid: str
    name: str | None
    module: str
    reason: Any = None
    message: str | None = None
    ancestors: tuple[str, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values for a structured log."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "reason": None if self.reason is None else describe(self.reason)}

    def __str__(self) -> str:
        """The text for a log without a formatter of its own: the process and its full reason, secrets masked."""
        lines = [f"{self.kind} report: {self.name or self.pid} {self.module}"]
        if self.context:
            lines.append(
                "  " + ", ".join(f"{key}: {text(value, str)}" for key, value in self.context.items())
            )
        if self.reason is not None:
            first, *rest = describe(self.reason).splitlines() or [""]
            lines += [f"  reason: {first}", *("  " + line for line in rest)]
        if self.message is not None:
            lines.append(f"  last message: {self.message}")
        if self.ancestors:
            lines.append(f"  ancestors: {', '.join(self.ancestors)}")
        return mask("\n".join(lines))


def describe(reason: Any) -> str:
    """A reason as readable text, never empty, with the full stack."""
    if isinstance(reason, tuple) and len(reason) == 2 and isinstance(reason[1], Stack):
        error = reason[0]
        head = "\n".join(_error(error)) if isinstance(error, BaseException) else text(error)
        return f"{head}\n{reason[1]}"
    return reason if isinstance(reason, str) and reason else text(reason)


def _error(error: BaseException, indent: str = "") -> list[str]:
    """An exception in one line; below an exception group, indented, its exceptions."""
    lines = [f"{indent}{type(error).__name__}: {text(error, str)}"]
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            lines += _error(one, indent + "  ")
    return lines


MOST = 8_000  # characters of one value: an error's text may hold what a client has sent


def text(value: Any, how: Callable[[Any], str] = repr) -> str:
    """`repr(value)`, up to MOST characters. If that raises, so much: what is reported must not break the report."""
    try:
        shown = how(value)
        return shown if len(shown) <= MOST else shown[:MOST] + "..."
    except Exception as error:
        return f"<{type(value).__name__}: {how.__name__} raised {type(error).__name__}>"


def module_of(actor: Any) -> str:
    """`module:Class` of an actor, or `module:function` of a plain process."""
    target = actor._fn if isinstance(actor, FunctionProcess) else type(actor)  # pyright: ignore[reportPrivateUsage] - of this package
    if not isroutine(target) and not isinstance(target, type):  # a callable object
        target = type(target)
    module = getattr(target, "__module__", None) or "builtins"  # a method of a built-in type has none
    return f"{module}:{target.__qualname__}"


def ancestors(cell: Cell) -> tuple[str, ...]:
    """The names, or else pids, of its parent, the parent's parent and so on."""
    out: list[str] = []
    parent = cell.relations.parent
    while parent is not None and len(out) < 50:
        out.append(parent.cell.relations.name or str(parent))
        parent = parent.cell.relations.parent
    return tuple(out)


def emit(report: Report, level: int) -> None:
    """Sends a report to the log and to telemetry."""
    telemetry.execute(EVENT, {}, {"report": report})
    if log.isEnabledFor(level):
        log.log(level, "%s", report, extra={"report": report})


def listened(level: int) -> bool:
    """True if a report of this level would be logged or has a telemetry handler."""
    return log.isEnabledFor(level) or telemetry.attached(EVENT)


def crash(cell: Cell, reason: Any) -> None:
    """Crash report: a process ended with a reason other than normal or a shutdown."""
    if type(reason) is Reported or not listened(logging.ERROR):
        return
    message = None if cell.execution.message is None else _clip(cell.execution.message)
    emit(
        Report(
            "crash",
            str(cell),
            cell.relations.name,
            module_of(cell.actor),
            reason,
            message,
            ancestors(cell),
            _crash_context(cell),
        ),
        logging.ERROR,
    )


def _crash_context(cell: Cell) -> dict[str, Any]:
    """The state and the client as text, since a report may outlive the objects of the process."""
    context_of = getattr(cell.actor, "_crash_context", None)
    try:
        found = {} if context_of is None else context_of(cell.execution.message)
    except Exception as error:  # from the process's format_status
        found = {"state": f"format_status raised {type(error).__name__}"}
    return {key: _clip(value) for key, value in found.items()}


def supervisor(cell: Cell, error: str, reason: Any, child: Any, pid: Any, level: int = logging.ERROR) -> None:
    """Supervisor report; `error` is child_terminated, start_error, shutdown_error or shutdown."""
    if type(reason) is Reported or not listened(level):
        return
    context = {"error": error, "child": child, "child_pid": str(pid)}
    emit(
        Report(
            "supervisor", str(cell), cell.relations.name, module_of(cell.actor), reason, None, (), context
        ),
        level,
    )


def progress(cell: Cell, child: Any, pid: Any) -> None:
    """Progress report: a supervisor has started a child."""
    if listened(logging.DEBUG):
        context = {"child": child, "child_pid": str(pid)}
        emit(
            Report(
                "progress", str(cell), cell.relations.name, module_of(cell.actor), None, None, (), context
            ),
            logging.DEBUG,
        )


def long_schedule(cell: Cell, seconds: float) -> None:
    """Long schedule: one turn of a process took `seconds`."""
    module = module_of(cell.actor) if cell.actor is not None else "(ended)"
    message = None if cell.execution.message is None else _clip(cell.execution.message)
    emit(
        Report(
            "long_schedule", str(cell), cell.relations.name, module, None, message, (), {"seconds": seconds}
        ),
        logging.WARNING,
    )


def _clip(message: Any) -> str:
    shown = text(message)
    return shown if len(shown) <= 500 else shown[:500] + "..."
