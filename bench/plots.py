"""The figures as pictures: one PNG a unit of the table's facts, bars beside each other. Wall-clock is left out: it is weather."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt

from bench.figures import BEFORE, FLOOR, NOW, Figures, Row
from bench.table import number

HIGHEST: Final = 6  # times ours; longer bars are cut and say so, else nobody sees ours
COLORS: Final = {NOW: "#2563eb", BEFORE: "#93c5fd", FLOOR: "#9ca3af"}
OTHER: Final = "#e5a13b"
INCHES: Final = 0.19  # a bar
COLUMNS: Final = 3


def bars(figures: Figures, row: Row, before: str | None) -> list[tuple[str, float, str]]:
    """Name, value and colour of each contestant of a row: ours, the earlier commit's, the floor, then the others, best first."""
    named = {NOW: "now", BEFORE: before or "", FLOOR: "the floor"}
    found = [
        (named[name], median, COLORS[name])
        for name in named
        if (median := figures.median(row, name)) is not None
    ]
    return [*found, *((name, median, OTHER) for name, median in figures.peers(row).items())]


def draw(figures: Figures, before: str | None, folder: Path) -> list[Path]:
    """Writes bench-UNIT.png files into a folder; their paths."""
    units: dict[str, list[Row]] = defaultdict(list)
    for row in figures.rows:
        if not row.wall_clock and figures.median(row) is not None and len(bars(figures, row, before)) > 1:
            units[row.unit].append(row)
    folder.mkdir(parents=True, exist_ok=True)
    return [_picture(figures, rows, before, folder, unit) for unit, rows in units.items()]


def _picture(figures: Figures, rows: list[Row], before: str | None, folder: Path, unit: str) -> Path:
    shown = [bars(figures, row, before) for row in rows]
    columns = min(COLUMNS, len(rows))
    lines = -(-len(rows) // columns)
    heights = [max(map(len, shown[at : at + columns])) + 3 for at in range(0, len(rows), columns)]
    size = (6 * columns, INCHES * sum(heights))
    figure, axes = plt.subplots(lines, columns, figsize=size, height_ratios=heights, squeeze=False)
    for axis in axes.flat[len(rows) :]:
        axis.set_axis_off()
    for axis, row, found in zip(axes.flat, rows, shown, strict=False):
        _bars(axis, row, found)
    figure.tight_layout()
    path = folder / f"bench-{''.join(c if c.isalnum() else '-' for c in unit.lower())}.png"
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path


def _bars(axis: plt.Axes, row: Row, found: list[tuple[str, float, str]]) -> None:
    most = HIGHEST * found[0][1]
    shown = [min(value, most) for _, value, _ in found]
    drawn = axis.barh([name for name, _, _ in found], shown, color=[color for _, _, color in found])
    texts = [number(value) + (" (bar cut)" if value > most else "") for _, value, _ in found]
    axis.bar_label(drawn, texts, padding=3, fontsize=7)
    axis.set_xlim(0, max(shown) * 1.2)
    axis.invert_yaxis()
    axis.set_title(f"{row.what} ({row.unit})", loc="left", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
