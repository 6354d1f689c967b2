"""`python -m tests.fuzz --streams 10000000`: random streams through the readers of `targets`.

No exception escapes, no state is lost, and no input below 64 KiB takes more than 5 ms of CPU. What breaks that is printed
as bytes to repeat it with, and the command ends with 1. `--atheris` looks for streams by what code they reach, instead of
at random (it needs the package of that name).
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tests.fuzz.streams import LARGEST, mutations
from tests.fuzz.targets import TARGETS, Fuzzed, Target

MOST_CPU: Final = 5_000_000  # ns
TRIES: Final = 5  # the machine may be busy, and a collection falls on somebody: the quickest of these counts
BATCH: Final = 10_000


@dataclass(slots=True)
class Tally:
    """What was seen of one target."""

    streams: int = 0
    slowest: int = 0  # ns of CPU
    size: int = 0  # of the slowest stream


class Broken(Exception):
    """A stream that something does not hold for; the cause is chained."""

    def __init__(self, name: str, data: bytes, what: str) -> None:
        super().__init__(f"{name}: {what}: {data!r}")
        self.data = data


def timed(target: Target, data: bytes) -> int:
    """CPU time in ns of a stream, or of its longest turn."""
    started = time.thread_time_ns()
    longest = target(data)
    return time.thread_time_ns() - started if longest is None else longest


def check(name: str, target: Target, data: bytes, tally: Tally) -> None:
    """One stream. Raises Broken."""
    try:
        spent = timed(target, data)
    except Exception as error:
        raise Broken(name, data, f"{type(error).__name__}: {error}") from error
    if spent > tally.slowest:
        spent = min(spent, *(timed(target, data) for _ in range(TRIES)))
        if spent > MOST_CPU:
            raise Broken(name, data, f"{len(data)} bytes took {spent / 1e6:.1f} ms of CPU")
        if spent > tally.slowest:
            tally.slowest, tally.size = spent, len(data)
    tally.streams += 1


def run(streams: int, seed: int, names: list[str]) -> dict[str, Tally]:
    """So many streams through these targets, each by its share. Raises Broken."""
    total = sum(TARGETS[name].share for name in names)
    tallies = {name: Tally() for name in names}
    opened = {name: TARGETS[name].open() for name in names}
    makers = {name: _maker(TARGETS[name], Random(f"{seed} {name}")) for name in names}
    left = {name: max(1, round(streams * TARGETS[name].share / total)) for name in names}
    while any(left.values()):
        for name in names:
            make, target, tally = makers[name], opened[name], tallies[name]
            for _ in range(min(left[name], BATCH)):
                check(name, target, make(), tally)
            left[name] -= min(left[name], BATCH)
    return tallies


def _maker(fuzzed: Fuzzed, random: Random) -> Callable[[], bytes]:
    return mutations(fuzzed.seeds, fuzzed.parts, random)


def report(tallies: dict[str, Tally], seconds: float) -> None:
    """The table."""
    print(f"{'target':12}{'streams':>12}{'slowest ms':>12}{'its bytes':>11}")
    for name, tally in tallies.items():
        print(f"{name:12}{tally.streams:>12,}{tally.slowest / 1e6:>12.2f}{tally.size:>11,}")
    count = sum(tally.streams for tally in tallies.values())
    print(f"{count:,} streams in {seconds:,.0f} s: nothing escaped, nothing lost, nothing slow", flush=True)


def guided(name: str, streams: int, seed: int, corpus: Path | None) -> None:
    """libFuzzer by way of atheris, which ends the process by itself."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed: pip install 'bitnexus[fuzz]'")
    target = TARGETS[name].open()
    atheris.instrument_all()
    tally = Tally()
    options = [f"-runs={streams}", f"-seed={seed or 1}", f"-max_len={LARGEST}", "-rss_limit_mb=4096"]
    if corpus is not None:
        corpus.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate((*TARGETS[name].seeds, *TARGETS[name].parts)):
            (corpus / f"seed-{number}").write_bytes(data)
        options.append(str(corpus))
    atheris.Setup([sys.argv[0], *options], lambda data: check(name, target, data, tally))
    atheris.Fuzz()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="another one, other streams")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--atheris", action="store_true", help="guided by coverage, one --target at a time")
    parser.add_argument(
        "--corpus", type=Path, help="folder in which atheris keeps what reached something new"
    )
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    names: list[str] = chosen.target or list(TARGETS)
    if chosen.atheris:
        if len(names) != 1:
            parser.error("--atheris takes one --target")
        guided(names[0], chosen.streams, chosen.seed, chosen.corpus)
    started = time.monotonic()
    try:
        tallies = run(chosen.streams, chosen.seed, names)
    except Broken as broken:
        print(broken, file=sys.stderr)
        sys.exit(1)
    report(tallies, time.monotonic() - started)


if __name__ == "__main__":
    main()
