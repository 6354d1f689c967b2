"""What a scenario is made of, and which two such things no scenario has had together.

A feature is an op with one of its fields' values, an action, or a field of a process's description; names are left out, and a
value that names a process says only of which kind it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import combinations

from .mutations import names_of, records
from .terms import Json

NAMED = frozenset({"to", "sup", "by", "child"})
NAMELESS = frozenset(
    {"op", "id", "as", "name", "ref", "msg", "match", "children", "tree", "worker", "args", "do"}
)

Pair = tuple[str, str]


def features(steps: list[Json]) -> set[str]:
    """All that is in a scenario."""
    kinds = {name: kind for kind, names in names_of(steps).items() for name in names}
    found: set[str] = set()
    for owner, record in records(steps):
        found.add(owner)
        for field, value in record.items():
            if field == "act":
                found.update(f"{owner}.act={name}" for name in _actions(value))
            elif field in NAMED:
                found.add(f"{owner}.{field}={_kind(value, kinds)}")
            elif field not in NAMELESS:
                found.add(f"{owner}.{field}={_value(value)}")
    return found


def _actions(act: Json) -> Iterator[str]:
    """An action's name and those of the actions in it."""
    if isinstance(act, list) and act and isinstance(act[0], str):
        yield act[0]
        if act[0] in ("continue", "reply_then", "sleep"):
            yield from (f"{act[0]}/{inner}" for inner in _actions(act[-1]))


def _kind(value: Json, kinds: dict[str, str]) -> str:
    if isinstance(value, dict):
        return "/".join(sorted(value))
    return kinds.get(str(value).split("#")[0], str(value) if value in ("self", "driver") else "other")


def _value(value: Json) -> str:
    """As it is if it is simple; of a behaviour its name."""
    match value:
        case [str() as name, *_]:
            return name
        case {"seq": values}:
            return "seq/" + "/".join(_value(one) for one in values)
    return json.dumps(value, sort_keys=True)


def pairs(steps: list[Json]) -> set[Pair]:
    """Every two features of a scenario."""
    return set(combinations(sorted(features(steps)), 2))


class Novel:
    """Chooses scenarios that bring together what neither `known` ones nor those chosen before have."""

    def __init__(self, known: Iterable[list[Json]], least: int = 1) -> None:
        self.least = least
        self.seen: set[Pair] = set()
        for steps in known:
            self.seen |= pairs(steps)

    def takes(self, steps: list[Json]) -> bool:
        """Whether it has as many as `least` new pairs, which then are no more."""
        new = pairs(steps) - self.seen
        if len(new) < self.least:
            return False
        self.seen |= new
        return True
