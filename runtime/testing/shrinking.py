"""Shrinks a failing interleaving to the fewest deviations from first come, first served that still fail.

A run is the list of choices of its scheduler, in which 0 is the process that has waited longest. A race of two messages shrinks
to a single number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runtime.testing.simulation import Body, Simulation, perform

MAX_RUNS: Final = 500

Scenario = Callable[[Simulation], Any] | Body


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The result: `Simulation(choices=choices)` fails with `error`, as found in `runs` runs; with charts of the run."""

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
    def __init__(self, scenario: Scenario, kind: type[BaseException], max_runs: int) -> None:
        self.scenario = scenario
        self.kind = kind
        self.left = max_runs
        self.best: Shrunk | None = None
        self.runs = 0

    def fails(self, choices: Sequence[int]) -> bool:
        """Runs the choices; if they fail with the same type of error they become the best so far."""
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
    """One run; None if it does not fail."""
    try:
        with sim:
            perform(scenario, sim)
    except Exception as error:
        return Shrunk(sim.choices, error, 1, sim.chart(), sim.mermaid())
    return None


def shrink(scenario: Scenario, seed: int = 0, max_runs: int = MAX_RUNS) -> Shrunk:
    """The shortest interleaving found in `max_runs` runs in which `scenario` fails as it does with `seed`.

    `scenario` is as `explore` takes it. Raises ValueError if it does not fail with this seed.
    """
    first = attempt(scenario, Simulation(seed))
    if first is None:
        raise ValueError(f"seed {seed}: the scenario does not fail")
    search = _Search(scenario, type(first.error), max_runs)
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
    """The shortest failing prefix, followed by first come, first served."""
    low, high = 0, len(choices)
    # A binary search, though failing is not monotonic: the result fails in any case.
    while low < high and search.left > 0:
        middle = (low + high) // 2
        if search.fails(choices[:middle]):
            high = middle
        else:
            low = middle + 1
    return choices[:high]


def _smaller(search: _Search, choices: list[int]) -> list[int]:
    """Replaces blocks of decreasing size by zeros, then single choices by smaller ones."""
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
