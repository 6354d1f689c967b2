"""The command: `python -m tests.otp [--seeds N] [--first-seed S] DIR...`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from .comparison import Difference, compare
from .scenario import Scenario, replay


def scenario_files(places: list[Path]) -> list[Path]:
    """All scenario files at or below these places, each once, sorted."""
    files: set[Path] = set()
    for place in places:
        files.update([place] if place.is_file() else place.rglob("*.json"))
    return sorted(files)


def first_difference(
    seeds: range, differences: Callable[[int], list[Difference]]
) -> tuple[int, list[Difference]]:
    """The first seed under which a replay differs, and how; else the first seed and nothing."""
    for seed in seeds:
        if found := differences(seed):
            return seed, found
    return seeds[0], []


def check(scenario: Scenario, seeds: range, preempt: bool = False) -> tuple[int, list[Difference]]:
    """Replays under each seed; the first that differs, and how."""
    return first_difference(seeds, lambda seed: compare(scenario, *replay(scenario.steps, seed, preempt)))


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


def command(program: str, description: str | None, seeds: int) -> argparse.ArgumentParser:
    """What replaying takes: folders and seeds, by default so many."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument(
        "places", nargs="+", type=Path, metavar="DIR", help="a folder with scenario files, or one file"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=seeds,
        metavar="N",
        help="schedules tried per scenario (default %(default)s)",
    )
    parser.add_argument(
        "--first-seed", type=int, default=0, metavar="S", help="the first of them (default %(default)s)"
    )
    return parser


def replay_files(options: argparse.Namespace, failure: Callable[[Path, range], str | None]) -> int:
    """Replays all files, prints what `failure` says of each under these seeds, and the counts; the exit code."""
    files = scenario_files(options.places)
    if not files:
        print(f"no scenario files (*.json) in {', '.join(map(str, options.places))}", file=sys.stderr)
        return 2
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    log = logging.getLogger("runtime")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # crash reports are what scenarios are made of
    failed = 0
    try:
        for file in files:
            try:
                found = failure(file, seeds)
            except Exception:
                found = f"FAILED {file}\n{traceback.format_exc()}"
            if found is not None:
                failed += 1
                print(found)
    finally:
        log.setLevel(level)  # the tests call this in their own process
    print(f"{len(files) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    """Replays everything and prints what differs; the exit code."""
    parser = command("python -m tests.otp", __doc__, 3)
    parser.add_argument(
        "--preempt", action="store_true", help="let processes be interrupted between the ops of a step"
    )
    options = parser.parse_args(arguments)

    def failure(file: Path, seeds: range) -> str | None:
        scenario = Scenario.load(file)
        seed, differences = check(scenario, seeds, options.preempt)
        return describe(scenario, seed, differences) if differences else None

    return replay_files(options, failure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
