"""The bench's table fits a terminal of 100 columns, whatever is in it, and nothing is cut off."""

from __future__ import annotations

import re

import pytest

from bench.figures import BEFORE, FLOOR, NOW, Figures, Mark, Row
from bench.table import WIDTH, lines, number, packed

LONG = "a row whose name says more than a line can hold, " * 3
WORD = "a-name-without-a-single-space-" * 5


def crowded() -> Figures:
    figures = Figures()
    for row in (
        Row(LONG, "microseconds of CPU", mark=Mark(1e9, 1.0)),
        Row(WORD, "ms", wall_clock=True),
        Row("POST", "us CPU"),
    ):
        for name in (NOW, BEFORE, FLOOR, *(f"a peer of the bench, number {n}" for n in range(12)), WORD):
            figures.add(row, name, 123_456_789.0)
        figures.lacks(row, WORD + "x", LONG)
    return figures


@pytest.mark.parametrize("before", [None, "4e7c568", "a-branch-with-a-very-long-name-indeed"])
def test_no_line_is_wider_than_a_terminal(before: str | None) -> None:
    assert max(map(len, lines(crowded(), before))) <= WIDTH


def test_every_word_of_the_table_is_there() -> None:
    shown = "".join("".join(lines(crowded(), "4e7c568")).split())
    for text in (LONG, WORD, "a peer of the bench, number 11 123M (1.0x)", f"{WORD}x: {LONG}"):
        assert "".join(text.split()) in shown


def row_of(figures: Figures, before: str | None) -> list[str]:
    return re.split(r"  +", list(lines(figures, before))[2])


def test_a_row_has_both_commits_and_their_ratio() -> None:
    figures = Figures()
    row = Row("POST", "us CPU")
    for name, value in ((NOW, 90.0), (BEFORE, 120.0), (FLOOR, 30.0)):
        figures.add(row, name, value)
    assert row_of(figures, "4e7c568") == ["POST", "us CPU", "90", "120", "0.75", "30"]
    assert row_of(figures, None) == ["POST", "us CPU", "90", "30"]


def test_wall_clock_is_marked_wherever_it_stands() -> None:
    figures = Figures()
    row = Row("p50", "ms", wall_clock=True)
    for name, value in ((NOW, 1.0), (BEFORE, 2.0), ("aiohttp", 4.0)):
        figures.add(row, name, value)
    assert row_of(figures, "4e7c568") == ["p50", "ms", "~1", "~2", "~0.50", "-"]
    assert "    aiohttp ~4 (4.0x)" in lines(figures, "4e7c568")


def test_an_earlier_commit_without_the_row_says_so() -> None:
    figures = Figures()
    row = Row("storm", "us CPU")
    figures.add(row, NOW, 5.0)
    figures.lacks(row, BEFORE, "has no such row")
    assert row_of(figures, "4e7c568") == ["storm", "us CPU", "5", "-", "-", "-"]
    assert "4e7c568: has no such row (storm)" in lines(figures, "4e7c568")


def test_phrases_are_packed_whole() -> None:
    phrases = [f"phrase number {n}" for n in range(20)]
    shown = list(packed(phrases, "    "))
    assert all(len(line) <= WIDTH and line.startswith("    phrase") for line in shown)
    assert " ".join(line.strip() for line in shown) == ", ".join(phrases)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.04321, "0.0432"),
        (9.876, "9.88"),
        (123.4, "123"),
        (123456.7, "123,457"),
        (1234567.0, "1.23M"),
        (5e9, "5G"),
    ],
)
def test_a_number_has_the_digits_that_count(value: float | None, text: str) -> None:
    assert number(value) == text
