"""The command: `python -m tests.otp_nodes [--fabric simulated|nats] [--seeds N] DIR...`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from runtime.testing.cluster import Cluster
from tests.otp.__main__ import command, describe, first_difference, replay_files
from tests.otp.comparison import Difference, compare

from .nats_cluster import NatsCluster, nats_server
from .world import NodeScenario, replay


def check(scenario: NodeScenario, seeds: range, make: Any = Cluster) -> tuple[int, list[Difference]]:
    """Replays under each seed; the first that differs, and how."""
    return first_difference(seeds, lambda seed: compare(scenario, *replay(scenario, seed, make)))  # type: ignore[arg-type]


def main(arguments: list[str]) -> int:
    """Replays everything and prints what differs; the exit code."""
    parser = command("python -m tests.otp_nodes", __doc__, 1)
    parser.add_argument(
        "--fabric",
        choices=("simulated", "nats"),
        default="simulated",
        help="what carries the frames (default simulated)",
    )
    options = parser.parse_args(arguments)
    make: Any = Cluster if options.fabric == "simulated" else NatsCluster

    def failure(file: Path, seeds: range) -> str | None:
        scenario = NodeScenario.load(file)
        seed, differences = check(scenario, seeds, make)
        return describe(scenario, seed, differences) if differences else None  # type: ignore[arg-type]

    if make is Cluster:
        return replay_files(options, failure)
    with nats_server() as NatsCluster.url:
        return replay_files(options, failure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
