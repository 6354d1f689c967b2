"""The most recent reports of the runtime (SASL's `rb`): crash and supervisor reports and long schedules, newest last.

A bounded list, filled by telemetry. Progress reports are counted but not kept. Listeners are called with every report, including
those; they run where the process has ended, so they must be fast.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.core import reports, telemetry
from runtime.core.reports import Report
from runtime.observe import term

_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class LoggedReport:
    """A report with its number and time, in seconds since 1970."""

    number: int
    at: float
    report: Report

    def as_dict(self, full: bool = True) -> dict[str, Any]:
        """The report as plain JSON values, secrets masked; unless `full`, with the first line of the reason only."""
        report = self.report
        reason = None if report.reason is None else term.mask(reports.describe(report.reason))
        if reason is not None and not full:
            reason = reason.splitlines()[0] if reason else reason
        return {
            "id": self.number,
            "at": self.at,
            "kind": report.kind,
            "pid": report.pid.strip("<>"),
            "name": report.name,
            "module": report.module,
            "reason": None if reason is None else term.clip(reason, 8000 if full else 300),
            "message": None if report.message is None else term.mask(report.message),
            "ancestors": list(report.ancestors),
            "context": term.show(report.context),
        }


class ReportLog:
    """Keeps the last `size` reports, from `attach()` to `detach()`."""

    def __init__(self, size: int = 200) -> None:
        self.entries: deque[LoggedReport] = deque(maxlen=size)
        self.totals: dict[str, int] = {}
        self.listeners: list[Callable[[LoggedReport], None]] = []
        self._handler = f"report_log-{next(_ids)}"
        self._numbers = itertools.count(1)

    def attach(self) -> ReportLog:
        """Starts recording."""
        telemetry.attach(self._handler, reports.EVENT, self._take)
        return self

    def detach(self) -> None:
        """Stops recording; the reports are kept."""
        telemetry.detach(self._handler)

    def _take(
        self, event: tuple[str, ...], measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        report: Report = metadata["report"]
        self.totals[report.kind] = self.totals.get(report.kind, 0) + 1
        entry = LoggedReport(next(self._numbers), time.time(), report)
        if report.kind != "progress":
            self.entries.append(entry)
        for listener in self.listeners:
            listener(entry)

    def last(self, limit: int = 50, *, kind: str | None = None, pid: str | None = None, name: str | None = None,
             before: int | None = None) -> list[LoggedReport]:  # fmt: skip
        """Reports, newest first; of a kind, or of a process by pid or registered name, also as a supervisor's child."""
        found: list[LoggedReport] = []
        for entry in reversed(self.entries):
            report = entry.report
            if kind is not None and report.kind != kind:
                continue
            if before is not None and entry.number >= before:
                continue
            if pid is not None or name is not None:
                about = {report.pid.strip("<>"), str(report.context.get("child_pid", "")).strip("<>")}
                named = (report.name, report.context.get("child")) if name is not None else ()
                if pid not in about and name not in named:
                    continue
            found.append(entry)
            if len(found) >= limit:
                break
        return found
