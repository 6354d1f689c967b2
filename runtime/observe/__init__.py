"""Looking at running processes: the observer, SASL reports in the log, metrics from telemetry.

Every module of this package is public.
"""

from runtime.observe import (
    observer,
    process_info,
    report_log,
    sasl_format,
    supervision_tree,
    telemetry_metrics,
    term,
)

__all__ = [
    "observer",
    "process_info",
    "report_log",
    "sasl_format",
    "supervision_tree",
    "telemetry_metrics",
    "term",
]  # fmt: skip
