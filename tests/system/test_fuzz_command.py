"""`python -m tests.fuzz`, a short run of it: see there."""

from __future__ import annotations

import logging

import pytest

from tests.fuzz.__main__ import Broken, Tally, check, run
from tests.fuzz.targets import TARGETS

STREAMS = 60_000


@pytest.fixture(autouse=True)
def _quiet() -> object:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_nothing_escapes_nothing_is_lost_nothing_is_slow() -> None:
    tallies = run(STREAMS, 7, list(TARGETS))
    assert sum(tally.streams for tally in tallies.values()) >= STREAMS
    assert all(tally.streams > 1000 for tally in tallies.values())


def test_what_breaks_is_found() -> None:
    def escapes(data: bytes) -> None:
        raise ValueError("escaped")

    def slow(data: bytes) -> int:
        return 5_000_001

    for target, said in ((escapes, "ValueError: escaped"), (slow, "took 5.0 ms of CPU")):
        with pytest.raises(Broken, match=said):
            check("x", target, b"abc", Tally())
