"""Real Erlang and Elixir, asked anew: what was recorded of them is what they do. Skipped where they are not installed.

A busy machine may delay a process of theirs past a timeout of the scenario: it counts if they do it in one run of three.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests.elixir import __main__ as elixir
from tests.otp.differential import recorded_truth
from tests.otp.real_erlang import record

RECORDED = Path(__file__).parents[1] / "otp" / "recorded"


def never_so(runs: int, names: set[str], once: Callable[[set[str]], set[str]]) -> set[str]:
    """Of `names` those that `once`, which gives the ones that differ, finds in each of so many runs."""
    for _ in range(runs):
        names = once(names)
        if not names:
            break
    return names


def quick(recording: Any) -> bool:
    return (
        sum(step.get("settle_ms", 0) for step in recording["steps"]) <= 2000
        and recording["alive"] is not None
    )


@pytest.mark.skipif(which("erl") is None, reason="Erlang is not installed")
def test_erlang_does_what_is_recorded() -> None:
    found = [
        one for file in sorted(RECORDED.glob("*.json")) for one in json.loads(file.read_text()) if quick(one)
    ]
    recordings = {one["name"]: one for one in found[::4]}
    assert len(recordings) >= 12

    def differing(names: set[str]) -> set[str]:
        runs = record([(name, recordings[name]["steps"]) for name in sorted(names)], machines=2)
        return {
            name
            for name in names
            if name not in runs
            or not all(
                map(
                    lambda step, events: step.holds(events),
                    recorded_truth(recordings[name]).steps,
                    runs[name].trace,
                )
            )
        }

    assert never_so(3, set(recordings), differing) == set()


@pytest.mark.skipif(which("elixir") is None, reason="Elixir is not installed")
def test_elixir_does_what_is_recorded() -> None:
    recorded = json.loads(elixir.RECORDED.read_text())

    def differing(names: set[str]) -> set[str]:
        now = elixir.elixir()
        return {name for name in names if now.get(name) != recorded[name]}

    assert never_so(3, set(recorded), differing) == set()
