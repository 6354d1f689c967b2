"""Random scenarios from nothing, in the format of the recorded ones: trees of supervisors, processes, servers, managers.

They combine what the recorded ones have one at a time. Times are far apart for a real clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Protocol

from .random_chains import Chains
from .random_grammar import Grammar
from .random_managers import Managers
from .random_mixed import Mixed
from .random_processes import Plain
from .random_servers import Servers
from .random_starts import Starts
from .random_trees import Trees
from .terms import Json


class Scenarios(Protocol):
    """Makes the scenario of its source of chance."""

    def scenario(self) -> list[Json]: ...


MADE: dict[str, Callable[[Random], Scenarios]] = {
    "trees": Trees,
    "processes": Plain,
    "servers": Servers,
    "managers": Managers,
    "starts": Starts,
    "chains": Chains,
    "mixed": Mixed,
    "grammar": Grammar,
}


def made_scenarios(kind: str, count: int, seed: int = 0) -> Iterator[tuple[str, list[Json]]]:
    """`count` scenarios of a kind, `(name, steps)`; the same for the same seed."""
    for number in range(count):
        name = f"{kind}/{seed}/{number}"
        yield name, MADE[kind](Random(name)).scenario()
