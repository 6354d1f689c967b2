"""What a run has measured: a value for each row, contestant and round; and what follows from them, medians and ratios.

Nothing here measures. A row is declared once, by the benchmark that measures it; the contestants are this commit (`NOW`), an
earlier one (`BEFORE`), the floor program (`FLOOR`) and peers by their names.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

NOW: Final = "now"
BEFORE: Final = "before"
FLOOR: Final = "floor"
PHOENIX: Final = "Phoenix, scaled"


@dataclass(frozen=True, slots=True)
class Mark:
    """Phoenix 1.8.9 on another machine, and the contestant `by` there: scaled by what that takes here, it can stand beside."""

    phoenix: float
    unit: float
    by: str = FLOOR


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Less is better, unless `more_is_better`; `wall_clock` says that the machine's load is in it."""

    what: str
    unit: str
    wall_clock: bool = False
    more_is_better: bool = False
    mark: Mark | None = None


class Figures:
    """The values of a run. Rows come in the order in which they were declared."""

    def __init__(self) -> None:
        self._values: dict[Row, dict[str, list[float]]] = {}
        self._missing: dict[Row, dict[str, str]] = {}

    @property
    def rows(self) -> list[Row]:
        """All that were declared."""
        return list(self._values)

    def declare(self, rows: Iterable[Row]) -> None:
        """These will be measured, in this order."""
        for row in rows:
            self._values.setdefault(row, {})

    def add(self, row: Row, contestant: str, value: float) -> None:
        """One round's value."""
        self._values.setdefault(row, {}).setdefault(contestant, []).append(value)

    def lacks(self, row: Row, contestant: str, reason: str) -> None:
        """This contestant has no such row: why. What it had there is dropped."""
        self.declare((row,))
        self._values[row].pop(contestant, None)
        self._missing.setdefault(row, {})[contestant] = reason

    def missing(self) -> Iterator[tuple[Row, str, str]]:
        """Row, contestant and reason of whatever is not there."""
        for row, reasons in self._missing.items():
            yield from ((row, contestant, reason) for contestant, reason in reasons.items())

    def values(self, row: Row, contestant: str) -> list[float]:
        """The values of all rounds; none for a contestant without this row."""
        return self._values.get(row, {}).get(contestant, [])

    def median(self, row: Row, contestant: str = NOW) -> float | None:
        """The middle of the rounds; None without any."""
        values = self.values(row, contestant)
        return statistics.median(values) if values else None

    def ratio(self, row: Row, to: str = BEFORE) -> float | None:
        """How much of the other's median ours is; None where one of them is missing or nothing."""
        ours, theirs = self.median(row), self.median(row, to)
        return ours / theirs if ours is not None and theirs else None

    def peers(self, row: Row) -> dict[str, float]:
        """The medians of all others, the best first; with Phoenix as scaled, where the row has a mark for it."""
        names = self._values.get(row, {}).keys() - {NOW, BEFORE, FLOOR}
        found = {name: median for name in names if (median := self.median(row, name)) is not None}
        if (scaled := self.phoenix(row)) is not None:
            found[PHOENIX] = scaled
        return dict(sorted(found.items(), key=lambda item: item[1], reverse=row.more_is_better))

    def phoenix(self, row: Row) -> float | None:
        """Phoenix's figure of elsewhere in terms of this run; None without a mark, or without the unit in this run."""
        if row.mark is None:
            return None
        unit = self.median(row, row.mark.by)
        return None if unit is None else row.mark.phoenix * unit / row.mark.unit

    def dump(self) -> list[dict[str, Any]]:
        """Everything as plain data, for a file of JSON."""
        return [
            {"row": asdict(row), "values": values, "missing": self._missing.get(row, {})}
            for row, values in self._values.items()
        ]

    @classmethod
    def load(cls, dumped: list[dict[str, Any]]) -> Figures:
        """What `dump` gave."""
        figures = cls()
        for each in dumped:
            mark = each["row"].pop("mark")
            row = Row(**each["row"], mark=Mark(**mark) if mark else None)
            figures._values[row] = each["values"]
            if each["missing"]:
                figures._missing[row] = each["missing"]
        return figures
