"""`python -m tests.floods [--only TEXT]`: what each flood costs a server that is fresh.

For each: how much memory grows while it lasts and what is left after, and the slowest /health of another client meanwhile,
which a process of its own asks. Exit code 1 if one grows by 20 MB, leaves 10, or keeps /health waiting for SLOWEST
ms.
"""

from __future__ import annotations

import argparse
import sys

import httpx
import psutil
import uvloop

from bench.bitnexus import serving
from bench.revision import present
from tests.floods.clients import Flood, Target
from tests.floods.kinds import FLOODS, GROWS
from tests.floods.measuring import Cost, measure

SLOWEST = 100.0


def against_a_fresh_server(flood: Flood, clients: int, seconds: float) -> Cost:
    """Starts one, signs in, floods it."""
    with serving(present()) as server:
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            for path in ("/health", "/x", "/openapi.json", "/api/v1/health/ready"):
                client.get(path)  # what first requests need is no growth
        target = Target(server.port, server.token, server.user["id"])
        process = psutil.Process(server.running.process.pid)
        return uvloop.run(measure(target, process, flood, seconds, clients))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.floods", description=__doc__)
    parser.add_argument("--only", default="", help="floods whose name has this text")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4.0)
    chosen = parser.parse_args()
    print(f"{'flood':56}{'grows MB':>10}{'stays MB':>10}{'/health ms':>12}")
    bad = 0
    for name, flood in FLOODS.items():
        if chosen.only not in name:
            continue
        cost = against_a_fresh_server(flood, chosen.clients, chosen.seconds)
        passed = cost.grown < GROWS and cost.stays < GROWS / 2 and cost.slowest < SLOWEST
        bad += not passed
        print(
            f"{name:56}{cost.grown:>10.1f}{cost.stays:>10.1f}{cost.slowest:>12.0f}{'' if passed else '  !'}",
            flush=True,
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
