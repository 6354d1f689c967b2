"""The rule by which two traces are the same (section 8 of the format).

Per step the same events, each as often, and every order that OTP forces.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from .scenario import Scenario
from .terms import Json


@dataclass(slots=True)
class Difference:
    """What is wrong in one step (None: with the processes alive at the end)."""

    step: int | None
    problems: list[str]
    expected: list[Json] = field(default_factory=list)
    got: list[Json] = field(default_factory=list)


def _numbered(events: list[Json]) -> list[tuple[str, int]]:
    # Identical events are matched by occurrence, the k-th with the k-th.
    seen: Counter[str] = Counter()
    numbered: list[tuple[str, int]] = []
    for event in events:
        text = json.dumps(event, sort_keys=True)
        seen[text] += 1
        numbered.append((text, seen[text]))
    return numbered


def problems_of_step(expected: list[Json], order: Json, got: list[Json]) -> list[str]:
    """What distinguishes a step's events from the expected ones; empty if nothing does."""
    wanted, actual = _numbered(expected), _numbered(got)
    missing = [f"missing     {text}" for text, k in wanted if (text, k) not in set(actual)]
    unexpected = [f"unexpected  {text}" for text, k in actual if (text, k) not in set(wanted)]
    if missing or unexpected:
        return missing + unexpected
    at = {key: index for index, key in enumerate(actual)}
    pairs = [(i, i + 1) for i in range(len(wanted) - 1)] if order == "total" else order
    return [
        f"order       {wanted[i][0]} must come before {wanted[j][0]}"
        for i, j in pairs
        if at[wanted[i]] > at[wanted[j]]
    ]


def compare(scenario: Scenario, trace: list[list[Json]], alive: list[str]) -> list[Difference]:
    """All differences between what OTP did and a replay's trace."""
    differences: list[Difference] = []
    for step, (expected, order, got) in enumerate(zip(scenario.trace, scenario.order, trace, strict=True)):
        problems = problems_of_step(expected, order, got)
        if problems:
            differences.append(Difference(step, problems, expected, got))
    if alive != scenario.alive:
        problems = [f"missing     {who}" for who in scenario.alive if who not in alive]
        problems += [f"unexpected  {who}" for who in alive if who not in scenario.alive]
        differences.append(Difference(None, problems, scenario.alive, alive))
    return differences
