"""The figures as a table for people: no line wider than WIDTH, whatever is in it, and nothing cut off."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from bench.figures import BEFORE, FLOOR, NOW, Figures, Row

WIDTH: Final = 100
WHAT, UNIT, NUMBER = 54, 8, 8  # widths of columns
LEGEND: Final = (
    "CPU is that of the server's processes (and of PostgreSQL's, where it says so), never the clients'. Under a row: others in"
    " this run, and how many times ours they take. ~ is wall-clock: weather of this machine, no fact.",
    "Phoenix, scaled: what Phoenix 1.8.9 took on another machine, times what the floor takes here over what it took there."
    " The floor is a bare program doing the same socket and SQL work.",
)


def number(value: float | None) -> str:
    """A figure with three digits that count."""
    if value is None:
        return "-"
    for unit, suffix in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def lines(figures: Figures, before: str | None) -> Iterator[str]:
    """The table, and below it what is missing. `before` is the earlier commit's label, None without one."""
    numbers = ["now", *(() if before is None else (before[:NUMBER], "now/then")), "floor"]
    yield _line("what", "unit", numbers)
    yield "-" * (WHAT + UNIT + 1 + len(numbers) * (NUMBER + 1))
    for row in figures.rows:
        what = textwrap.wrap(row.what, WHAT)
        unit = textwrap.wrap(row.unit, UNIT)
        yield _line(what[0], unit[0], _numbers(figures, row, before is not None))
        for at in range(1, max(len(what), len(unit))):
            yield _line(what[at] if at < len(what) else "", unit[at] if at < len(unit) else "", [])
        yield from packed(_beside(figures, row), "    ")
    yield ""
    for text in (*LEGEND, *absent(figures, before)):
        yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ")


def _line(what: str, unit: str, numbers: list[str]) -> str:
    cells = "".join(f" {text:>{NUMBER}}" for text in numbers)
    return f"{what:{WHAT}} {unit:{UNIT}}{cells}".rstrip()


def _numbers(figures: Figures, row: Row, against: bool) -> list[str]:
    weather = "~" if row.wall_clock else ""

    def cell(value: float | None, text: str) -> str:
        return "-" if value is None else weather + text

    now, then, floor = (figures.median(row, contestant) for contestant in (NOW, BEFORE, FLOOR))
    ratio = figures.ratio(row)
    middle = [cell(then, number(then)), cell(ratio, f"{ratio or 0:.2f}")] if against else []
    return [cell(now, number(now)), *middle, cell(floor, number(floor))]


def _beside(figures: Figures, row: Row) -> list[str]:
    ours, weather = figures.median(row), "~" if row.wall_clock else ""
    return [
        f"{name} {weather}{number(median)}" + (f" ({_times(median / ours)})" if ours else "")
        for name, median in figures.peers(row).items()
    ]


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio >= 1 else f"{ratio:.2f}x"


def packed(phrases: list[str], indent: str) -> Iterator[str]:
    """Phrases with commas between them, each whole on a line where it is no longer than one."""
    line = ""
    for text in (*(f"{phrase}," for phrase in phrases[:-1]), *phrases[-1:]):
        if line and len(indent) + len(line) + 1 + len(text) > WIDTH:
            yield from textwrap.wrap(line, WIDTH, initial_indent=indent, subsequent_indent=indent)
            line = ""
        line = f"{line} {text}".lstrip()
    yield from textwrap.wrap(line, WIDTH, initial_indent=indent, subsequent_indent=indent)


def absent(figures: Figures, before: str | None) -> list[str]:
    """One line for each contestant and reason: which rows it lacks."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row, contestant, reason in figures.missing():
        found[before or contestant if contestant == BEFORE else contestant, reason].append(row.what)
    return [f"{contestant}: {reason} ({'; '.join(whats)})" for (contestant, reason), whats in found.items()]
