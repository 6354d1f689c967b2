"""Medians, ratios, marks as scaled: what the bench says of what it measured."""

from __future__ import annotations

import json

import pytest

from bench.figures import BEFORE, FLOOR, NOW, PHOENIX, Figures, Mark, Row

POST = Row("POST", "us CPU", mark=Mark(300, 30))
RATE = Row("rate", "/s", wall_clock=True, more_is_better=True)


def filled(row: Row = POST, **values: list[float]) -> Figures:
    figures = Figures()
    for contestant, each in values.items():
        for value in each:
            figures.add(row, contestant, value)
    return figures


def test_the_figure_is_the_median_of_the_rounds() -> None:
    figures = filled(now=[1000.0, 10.0, 11.0, 9.0, 12.0])
    assert figures.median(POST) == 11.0
    assert figures.median(POST, BEFORE) is None


def test_the_ratio_is_of_medians_and_below_one_when_we_got_better() -> None:
    figures = filled(now=[30.0, 50.0, 40.0], before=[70.0, 80.0, 900.0])
    assert figures.ratio(POST) == pytest.approx(0.5)


@pytest.mark.parametrize("before", [[], [0.0]])
def test_without_the_other_figure_there_is_no_ratio(before: list[float]) -> None:
    assert filled(now=[30.0], before=before).ratio(POST) is None


def test_peers_come_best_first_without_ourselves_and_the_floor() -> None:
    figures = filled(now=[1.0], before=[1.0], floor=[30.0], slow=[500.0], quick=[20.0])
    assert list(figures.peers(POST)) == ["quick", PHOENIX, "slow"]
    assert list(filled(RATE, now=[1.0], slow=[5.0], quick=[20.0]).peers(RATE)) == ["quick", "slow"]


def test_a_mark_from_elsewhere_is_scaled_by_what_the_floor_takes_here() -> None:
    assert filled(now=[1.0], floor=[60.0, 60.0]).phoenix(POST) == 600.0


def test_a_mark_without_its_unit_in_this_run_is_not_told() -> None:
    figures = filled(now=[1.0])
    assert figures.phoenix(POST) is None
    assert figures.peers(POST) == {}


def test_who_lacks_a_row_loses_what_he_had_there_and_nothing_else() -> None:
    figures = filled(now=[1.0], before=[2.0, 2.0], other=[3.0])
    figures.lacks(POST, BEFORE, "answered 404")
    assert figures.median(POST, BEFORE) is None
    assert figures.ratio(POST) is None
    assert figures.median(POST, "other") == 3.0
    assert list(figures.missing()) == [(POST, BEFORE, "answered 404")]


def test_rows_come_as_declared_whoever_fails_first() -> None:
    figures = Figures()
    figures.declare([POST, RATE])
    figures.lacks(RATE, FLOOR, "no")
    figures.add(POST, NOW, 1.0)
    assert figures.rows == [POST, RATE]


def test_all_values_survive_a_file() -> None:
    figures = filled(now=[1.0, 2.0], floor=[60.0])
    figures.lacks(POST, BEFORE, "no")
    figures.declare([RATE])
    again = Figures.load(json.loads(json.dumps(figures.dump())))
    assert again.dump() == figures.dump()
    assert again.phoenix(POST) == 600.0
