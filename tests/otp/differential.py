"""The command: `python -m tests.otp.differential [--count N] [--seed S] (--erlang | --tree DIR | --record FILE) DIR...`.

Mutated scenarios of those in DIR (`mutations`), or random ones of a `--kind` (`machine_scenarios`, `made_scenarios`), performed
here and by another: `--erlang` by real OTP, on two schedulers and on one, and what differs between the two is left out; `--tree`
by the runtime of another checkout, step by step under the same seeds. `--record` writes what OTP did to a file that
`tests/runtime/test_otp_recorded.py` replays.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .__main__ import scenario_files
from .machine_scenarios import machine_scenarios
from .made_scenarios import MADE, made_scenarios
from .mutations import Pool, mutations
from .real_erlang import Recording, record
from .scenario import Scenario, replay
from .terms import Json

SEEDS = range(4)

RUNNER = """
import json, logging, sys
from tests.otp.scenario import replay
logging.getLogger("runtime").setLevel(logging.CRITICAL + 1)
for line in open(sys.argv[1], encoding="utf-8"):
    name, steps = json.loads(line)
    runs = []
    for seed in range(int(sys.argv[2])):
        try:
            runs.append(replay(steps, seed))
        except Exception as error:
            runs.append(repr(error))
    print(json.dumps([name, runs]))
"""  # by another checkout's runtime: all that it must have is tests.otp.scenario


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario that nobody has written."""

    name: str
    steps: list[Json]


def events_of(events: list[Json]) -> tuple[Counter[str], dict[str, list[str]]]:
    """What two runs of a step must have in common: the same events, and each process's own in the same order.

    When a process ends stands in no order to what it did: only the order of its own events is its own.
    """
    texts = [json.dumps(event, sort_keys=True) for event in events]
    own: dict[str, list[str]] = defaultdict(list)
    for event, text in zip(events, texts, strict=True):
        if event[0] != "down":
            own[event[1]].append(text)
    return Counter(texts), own


def agreed(first: Recording, second: Recording) -> int:
    """How many steps, from the first on, two recordings have in common: the rest is a race."""
    for at, (one, other) in enumerate(zip(first.trace, second.trace, strict=True)):
        if events_of(one) != events_of(other):
            return at
    return len(first.trace)


def first_difference(
    case: Case, recording: Recording, limit: int, look_at_alive: bool = True
) -> tuple[int, list[Json]] | None:
    """The step up to which the best of our schedules does what OTP did, and what it did there; None if one does it all.

    Who is alive in the end is looked at if all steps are.
    """
    best: tuple[int, list[Json]] | None = None
    for seed in SEEDS:
        trace, alive = replay(case.steps, seed, preempt=seed == SEEDS[-1])
        at = 0
        while at < limit and events_of(trace[at]) == events_of(recording.trace[at]):
            at += 1
        if at == limit:
            if limit < len(case.steps) or not look_at_alive or alive == recording.alive:
                return None
            at, trace = limit - 1, [*trace[: limit - 1], [["alive", "", who] for who in alive]]
        if best is None or at > best[0]:
            best = at, trace[at]
    return best


def against_erlang(cases: list[Case]) -> int:
    """Compares with real OTP and prints the differences; how many there are."""
    pairs = [(case.name, case.steps) for case in cases]
    first, second = record(pairs), record(pairs, schedulers=1)
    compared = steps = differing = 0
    for case in cases:
        if case.name not in first or case.name not in second:
            print(f"{case.name}: not recorded")
            continue
        limit = agreed(first[case.name], second[case.name])
        compared, steps = compared + 1, steps + limit
        difference = first_difference(case, first[case.name], limit)
        if difference is not None:
            differing += 1
            report(case, difference[0], first[case.name].trace[difference[0]], difference[1])
    print(f"{compared} scenarios with {steps} steps compared with real OTP, {differing} differ")
    return differing


def report(case: Case, at: int, expected: list[Json], got: list[Json]) -> None:
    """One difference, with all that leads to it."""
    print(f"DIFFERS {case.name} in step {at}")
    for number, step in enumerate(case.steps[: at + 1]):
        print(f"  {number}: {json.dumps(step)}")
    print(f"  expected: {json.dumps(expected)}\n  got:      {json.dumps(got)}")


def against_tree(cases: list[Case], tree: Path) -> int:
    """Compares with another checkout's runtime, schedule by schedule; how many scenarios differ."""
    file = tree / ".differential.jsonl"
    file.write_text("".join(json.dumps([case.name, case.steps]) + "\n" for case in cases), encoding="utf-8")
    try:
        command = [sys.executable, "-c", RUNNER, str(file), str(len(SEEDS))]
        here = Path(__file__).resolve().parents[2]
        outputs = [
            subprocess.run(command, cwd=place, stdout=subprocess.PIPE, text=True, check=True).stdout
            for place in (tree, here)
        ]
    finally:
        file.unlink()
    differing = 0
    for case, theirs, ours in zip(cases, *(output.splitlines() for output in outputs), strict=True):
        if theirs != ours:
            differing += 1
            for there, here_ in zip(json.loads(theirs)[1], json.loads(ours)[1], strict=True):
                if there != here_:
                    report_run(case, there, here_)
                    break
    print(f"{len(cases)} scenarios under {len(SEEDS)} schedules each, {differing} differ")
    return differing


def report_run(case: Case, theirs: Json, ours: Json) -> None:
    """The first step in which two replays are not the same."""
    if isinstance(theirs, str) or isinstance(ours, str):
        print(f"DIFFERS {case.name}: {str(theirs)[:300]} here {str(ours)[:300]}")
        return
    for at, (there, here) in enumerate(zip(theirs[0], ours[0], strict=True)):
        if there != here:
            report(case, at, there, here)
            return
    print(f"DIFFERS {case.name} in who is alive: {theirs[1]} here {ours[1]}")


def write_recordings(cases: list[Case], file: Path) -> None:
    """Records on real OTP, twice, and keeps what both have in common."""
    pairs = [(case.name, case.steps) for case in cases]
    first, second = record(pairs), record(pairs, schedulers=1)
    lines: list[str] = []
    for case in cases:
        if case.name in first and case.name in second:
            one = first[case.name]
            limit = agreed(one, second[case.name])
            whole = limit == len(case.steps)
            lines.append(
                json.dumps(
                    {
                        "name": case.name,
                        "steps": case.steps[:limit],
                        "trace": one.trace[:limit],
                        "alive": one.alive if whole else None,
                    },
                    separators=(",", ":"),
                )
            )
    file.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{len(lines)} recordings in {file}")


def cases_of(places: list[Path], count: int, seed: int, kind: str = "machines") -> Iterator[Case]:
    """`count` mutated scenarios of those in `places`; without places as many of a kind."""
    if places:
        pool = Pool([Scenario.load(file).steps for file in scenario_files(places)])
        for name, steps in mutations(pool, count, seed):
            yield Case(name, steps)
    else:
        made = machine_scenarios(count, seed) if kind == "machines" else made_scenarios(kind, count, seed)
        for name, steps in made:
            yield Case(name, steps)


def main(arguments: list[str]) -> int:
    """Makes the scenarios and has them compared; 1 if any differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.otp.differential", description=__doc__)
    parser.add_argument(
        "places", nargs="*", type=Path, metavar="DIR", help="recorded scenarios; none: those of --kind"
    )
    parser.add_argument("--kind", choices=["machines", *MADE], default="machines", help="made from nothing")
    parser.add_argument("--count", type=int, default=300, metavar="N", help="scenarios (default 300)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which (default 0)")
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--erlang", action="store_true", help="compare with real Erlang/OTP")
    other.add_argument("--tree", type=Path, metavar="DIR", help="compare with this checkout's runtime")
    other.add_argument("--record", type=Path, metavar="FILE", help="write what real Erlang/OTP did")
    options = parser.parse_args(arguments)
    logging.getLogger("runtime").setLevel(
        logging.CRITICAL + 1
    )  # crash reports are what scenarios are made of
    cases = list(cases_of(options.places, options.count, options.seed, options.kind))
    if options.record is not None:
        write_recordings(cases, options.record)
        return 0
    differing = against_erlang(cases) if options.erlang else against_tree(cases, options.tree)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
