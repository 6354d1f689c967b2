"""What a benchmark answers: a file in bench/ is one question, `def run() -> list[Row]` its answer.

`python -m bench` runs every file that has a `run`, each in a process of its own, and prints one table. A row has our figure,
those of peers measured in the same run, and the mark to beat where one is known from elsewhere. Smaller is better unless
`more_is_better`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `unit` names what the figures are, such as "us of CPU"."""

    what: str
    ours: float
    unit: str
    peers: dict[str, float] = field(default_factory=dict)
    mark: float | None = None
    mark_of: str = "Phoenix 1.8.9"
    more_is_better: bool = False
    note: str = ""


def figure(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
