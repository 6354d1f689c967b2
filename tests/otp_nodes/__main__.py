"""The command: `python -m tests.otp_nodes [--fabric simulated|nats] [--seeds N] DIR...`."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

from runtime.testing.cluster import Cluster
from tests.otp.__main__ import describe, scenario_files
from tests.otp.comparison import Difference, compare

from .nats_cluster import NatsCluster, nats_server
from .world import NodeScenario, replay


def check(scenario: NodeScenario, seeds: range, make: Any = Cluster) -> tuple[int, list[Difference]]:
    """Replays under each seed; the first that differs, and how."""
    for seed in seeds:
        trace, alive = replay(scenario, seed, make)
        differences = compare(scenario, trace, alive)  # type: ignore[arg-type]
        if differences:
            return seed, differences
    return seeds[0], []


def main(arguments: list[str]) -> int:
    """Replays everything and prints what differs; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.otp_nodes", description=__doc__)
    parser.add_argument(
        "places", nargs="+", type=Path, metavar="DIR", help="a folder with scenario files, or one file"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="schedules tried per scenario (default 1)"
    )
    parser.add_argument(
        "--first-seed", type=int, default=0, metavar="S", help="the first of them (default 0)"
    )
    parser.add_argument(
        "--fabric",
        choices=("simulated", "nats"),
        default="simulated",
        help="what carries the frames (default simulated)",
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
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        if options.fabric == "simulated":
            return replay_files(files, seeds, Cluster)
        with nats_server() as NatsCluster.url:
            return replay_files(files, seeds, NatsCluster)
    finally:
        log.setLevel(level)


def replay_files(files: list[Path], seeds: range, make: Any) -> int:
    """Replays the files, prints what differs and the counts; 1 if any failed."""
    failed = 0
    for file in files:
        try:
            scenario = NodeScenario.load(file)
            seed, differences = check(scenario, seeds, make)
        except Exception:
            failed += 1
            print(f"FAILED {file}\n{traceback.format_exc()}")
            continue
        if differences:
            failed += 1
            print(describe(scenario, seed, differences))  # type: ignore[arg-type]
    print(f"{len(files) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
