"""Values as observers see them."""

from __future__ import annotations

from enum import Enum

from runtime.observe import term


class Odd:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = object.__hash__


class Colour(Enum):
    RED = 1

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_what_a_value_raises_does_not_hide_the_others() -> None:
    shown = term.show({"password": Odd(), "colour": Colour.RED, "n": 1})
    assert shown == {"password": term.MASK, "colour": "Colour.RED", "n": 1}
