"""Why a supervision tree ended by itself: the worker and its exit reason, gathered from supervisor reports."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from runtime import Report, Stack, reports, telemetry

ADVICE: Final = "look at its crash reports above, then at `bitnexus doctor`; after an upgrade, go back to the version before"
_HANDLER: Final = "exit cause"


class ExitCause:
    """A context manager that listens to supervisor reports. `line` is None while no supervisor has given up."""

    def __init__(self) -> None:
        self._ended: dict[str, Any] = {}  # by child id: the reason of its last exit or failed start
        self._given_up: str | None = None  # the child that a supervisor last gave up on

    def __enter__(self) -> ExitCause:
        telemetry.attach(_HANDLER, reports.EVENT, self._reported)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        telemetry.detach(_HANDLER)

    def _reported(self, _event: Any, _measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        report: Report = metadata["report"]
        if report.kind != "supervisor":
            return
        child = report.context["child"]
        match report.context["error"]:
            case "child_terminated" | "start_error":
                # "shutdown" is that of a supervisor that gave up: its worker's reason is known already.
                if report.reason != "shutdown":
                    self._ended[child] = report.reason
            case "shutdown" if child in self._ended:
                self._given_up = child

    @property
    def line(self) -> str | None:
        """One line with the worker, its last exit reason and what to do."""
        if self._given_up is None:
            return None
        return f"{self._given_up} kept crashing, last with {brief(self._ended[self._given_up])}: {ADVICE}"


def brief(reason: Any) -> str:
    """An exit reason on one line, without its stack."""
    if isinstance(reason, tuple) and len(reason) == 2 and isinstance(reason[1], Stack):
        reason = reason[0]
    if isinstance(reason, BaseException):
        return f"{type(reason).__name__}: {reports.text(reason, str)}".rstrip(": ")
    return reports.describe(reason).splitlines()[0]
