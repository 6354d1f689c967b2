"""Shrinks a failing interleaving: the fewest deviations from first come, first served that still fail.

A run is the list of choices its scheduler made; 0 is the process that has waited longest. What is left of it is what the
failure needs: a race of two messages is one number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runtime.testing.simulation import Body, Simulation, perform

MOST_RUNS: Final = 500

Scenario = Callable[[Simulation], Any] | Body


@dataclass(frozen=True, slots=True)
class Shrunk:
    """`Simulation(choices=choices)` fails with `error`; `runs` were tried. The chart shows how it comes to that."""

    choices: list[int]
    error: BaseException
    runs: int
    chart: str
    mermaid: str

    def __str__(self) -> str:
        switches = sum(map(bool, self.choices))
        head = f"{type(self.error).__name__}: {self.error}\nSimulation(choices={self.choices})"
        return f"{head}  ({switches} choices that are not the first, {self.runs} runs)\n{self.chart}"


class _Search:
    def __init__(self, scenario: Scenario, kind: type[BaseException], most_runs: int) -> None:
        self.scenario = scenario
        self.kind = kind
        self.left = most_runs
        self.best: Shrunk | None = None
        self.runs = 0

    def fails(self, choices: Sequence[int]) -> bool:
        """True if this run fails in the same way: it is then the best so far."""
        if self.left <= 0:
            return False
        self.left -= 1
        self.runs += 1
        found = attempt(self.scenario, Simulation(choices=list(choices)))
        if found is None or not isinstance(found.error, self.kind):
            return False
        self.best = found
        return True


def attempt(scenario: Scenario, sim: Simulation) -> Shrunk | None:
    """One run: how it failed, None if it did not."""
    try:
        with sim:
            perform(scenario, sim)
    except Exception as error:
        return Shrunk(sim.choices, error, 1, sim.chart(), sim.mermaid())
    return None


def shrink(scenario: Scenario, seed: int = 0, most_runs: int = MOST_RUNS) -> Shrunk:
    """The shortest interleaving found in `most_runs` runs in which `scenario` fails as it does with `seed`.

    `scenario` is as `explore` takes it. Raises ValueError if it does not fail with this seed.
    """
    first = attempt(scenario, Simulation(seed))
    if first is None:
        raise ValueError(f"seed {seed}: the scenario does not fail")
    search = _Search(scenario, type(first.error), most_runs)
    search.best = first
    choices = _shortest(search, first.choices)
    while search.left > 0:
        smaller = _shortest(search, _smaller(search, choices))
        if smaller == choices:
            break
        choices = smaller
    best = search.best
    return Shrunk(best.choices, best.error, search.runs, best.chart, best.mermaid)


def _shortest(search: _Search, choices: list[int]) -> list[int]:
    """The shortest prefix that fails, the rest being first come, first served."""
    low, high = 0, len(choices)
    while low < high and search.left > 0:  # as if longer ones failed too; what is found does fail in any case
        middle = (low + high) // 2
        if search.fails(choices[:middle]):
            high = middle
        else:
            low = middle + 1
    return choices[:high]


def _smaller(search: _Search, choices: list[int]) -> list[int]:
    """As many zeros as the failure allows, in blocks that get smaller, then smaller numbers."""
    size = max(1, len(choices) // 2)
    while True:
        for begin in range(0, len(choices), size):
            block = choices[begin : begin + size]
            if any(block):
                trial = [*choices[:begin], *([0] * len(block)), *choices[begin + size :]]
                if search.fails(trial):
                    choices = trial
        if size == 1:
            break
        size //= 2
    for index, choice in enumerate(choices):
        for value in range(1, choice):
            trial = [*choices[:index], value, *choices[index + 1 :]]
            if search.fails(trial):
                choices = trial
                break
    return choices
