"""The command: `python -m tests.otp [--seeds N] [--first-seed S] DIR...`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import traceback
from pathlib import Path

from .comparison import Difference, compare
from .scenario import Scenario, replay


def scenario_files(places: list[Path]) -> list[Path]:
    """All scenario files at or below these places, each once, sorted."""
    files: set[Path] = set()
    for place in places:
        files.update([place] if place.is_file() else place.rglob("*.json"))
    return sorted(files)


def check(scenario: Scenario, seeds: range, preempt: bool = False) -> tuple[int, list[Difference]]:
    """Replays under each seed; the first that differs, and how."""
    for seed in seeds:
        trace, alive = replay(scenario.steps, seed, preempt)
        differences = compare(scenario, trace, alive)
        if differences:
            return seed, differences
    return seeds[0], []


def describe(scenario: Scenario, seed: int, differences: list[Difference]) -> str:
    """The differences for the reader: the step, the problems, what was expected and what was got."""
    lines = [f"FAILED {scenario.name} (seed {seed})"]
    for difference in differences:
        if difference.step is None:
            lines.append("  alive after the last step")
        else:
            step = scenario.steps[difference.step]
            lines.append(f"  step {difference.step} by {step.get('by', 'driver')}: {json.dumps(step['do'])}")
        lines += [f"    {problem}" for problem in difference.problems]
        for title, events in (("expected", difference.expected), ("got", difference.got)):
            lines.append(f"    {title}:")
            lines += [f"      {json.dumps(event)}" for event in events] or ["      nothing"]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Replays everything and prints what differs; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.otp", description=__doc__)
    parser.add_argument(
        "places", nargs="+", type=Path, metavar="DIR", help="a folder with scenario files, or one file"
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="schedules tried per scenario (default 3)"
    )
    parser.add_argument(
        "--first-seed", type=int, default=0, metavar="S", help="the first of them (default 0)"
    )
    parser.add_argument(
        "--preempt", action="store_true", help="let processes be interrupted between the ops of a step"
    )
    options = parser.parse_args(arguments)
    files = scenario_files(options.places)
    if not files:
        print(f"no scenario files (*.json) in {', '.join(map(str, options.places))}", file=sys.stderr)
        return 2
    log = logging.getLogger("runtime")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # crash reports are what scenarios are made of
    try:
        return replay_files(
            files, range(options.first_seed, options.first_seed + options.seeds), options.preempt
        )
    finally:
        log.setLevel(level)  # the tests call this in their own process


def replay_files(files: list[Path], seeds: range, preempt: bool) -> int:
    """Replays the files, prints what differs and the counts; 1 if any failed."""
    failed = 0
    for file in files:
        try:
            scenario = Scenario.load(file)
            seed, differences = check(scenario, seeds, preempt)
        except Exception:
            failed += 1
            print(f"FAILED {file}\n{traceback.format_exc()}")
            continue
        if differences:
            failed += 1
            print(describe(scenario, seed, differences))
    print(f"{len(files) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
