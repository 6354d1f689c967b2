"""The command: `python -m tests.otp.differential [--count N] [--seed S] (--erlang | --tree DIR | --record FILE) DIR...`.

With `--beyond DIR` only those scenarios count that bring together what none in DIR does (`pairs`).

Mutated scenarios of those in DIR (`mutations`), or random ones of a `--kind` (`machine_scenarios`, `made_scenarios`), performed
here and by another. `--erlang`: by real OTP, several times over, on one scheduler and on two, left alone and disturbed. Where
these differ it is a race, and the rest of the scenario is left out; what they have in common every schedule of ours must have.
What does not is run twenty times more, to know whether that is a race as well.
`--tree`: by the runtime of another checkout, step by step under the same seeds. `--record` writes what OTP did to a file that
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
from dataclasses import dataclass, replace
from pathlib import Path

from .__main__ import scenario_files
from .machine_scenarios import machine_scenarios
from .made_scenarios import MADE, made_scenarios
from .mutations import Pool, mutations
from .pairs import Novel
from .real_erlang import Recording, record
from .scenario import Scenario, replay
from .terms import Json

SEEDS = range(3)  # as tests.otp does

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
    """One generated scenario."""

    name: str
    steps: list[Json]


@dataclass(frozen=True, slots=True)
class Common:
    """What all recordings of a step have in common, which is what OTP forces: the events, and each process's own in order.

    When a process ends stands in no order to what it did. `supervised` is the order of the callbacks `init` and `terminate` of
    all processes, where it was always the same; else None.
    """

    events: Counter[str]
    own: dict[str, list[str]]
    supervised: list[str] | None

    @classmethod
    def of(cls, runs: list[list[Json]]) -> Common | None:
        """Of one step's runs; None if they differ in more than the order of different processes' events: a race."""
        first, *others = [cls._of_run(events) for events in runs]
        if any((first.events, first.own) != (other.events, other.own) for other in others):
            return None
        same = all(first.supervised == other.supervised for other in others)
        return cls(first.events, first.own, first.supervised if same else None)

    @classmethod
    def _of_run(cls, events: list[Json]) -> Common:
        texts = [json.dumps(event, sort_keys=True) for event in events]
        own: dict[str, list[str]] = defaultdict(list)
        supervised: list[str] = []
        for event, text in zip(events, texts, strict=True):
            if event[0] != "down":
                own[event[1]].append(text)
            if event[0] in ("init", "terminate"):
                supervised.append(text)
        return cls(Counter(texts), own, supervised)

    def holds(self, events: list[Json]) -> bool:
        """Whether a run of ours is as OTP forces it."""
        ours = self._of_run(events)
        if (ours.events, ours.own) != (self.events, self.own):
            return False
        return self.supervised is None or ours.supervised == self.supervised


@dataclass(frozen=True, slots=True)
class Truth:
    """What OTP does in a scenario, up to its first race; `alive` is None if that comes before the end."""

    steps: list[Common]
    alive: list[str] | None

    @classmethod
    def of(cls, recordings: list[Recording]) -> Truth:
        """What the recordings have in common."""
        steps: list[Common] = []
        for runs in zip(*(recording.trace for recording in recordings), strict=True):
            step = Common.of(list(runs))
            if step is None:
                return cls(steps, None)
            steps.append(step)
        first, *others = (recording.alive for recording in recordings)
        return cls(steps, first if all(first == other for other in others) else None)


def first_difference(case: Case, truth: Truth) -> tuple[int, list[Json]] | None:
    """The first step in which a schedule of ours does not do what OTP does, and what it does; None if there is none.

    Who is alive in the end is looked at if all steps are.
    """
    best: tuple[int, list[Json]] | None = None
    for seed in SEEDS:
        trace, alive = replay(case.steps, seed)
        for at, step in enumerate(truth.steps):
            if not step.holds(trace[at]):
                found = at, trace[at]
                break
        else:
            if truth.alive is None or alive == truth.alive:
                continue
            found = len(truth.steps) - 1, [["alive", "", who] for who in alive]
        if best is None or found[0] < best[0]:
            best = found
    return best


def recordings_of(cases: list[Case], rounds: int) -> dict[str, list[Recording]]:
    """`rounds` runs of each scenario on real OTP, the first two left alone; without those that OTP did not survive."""
    pairs = [(case.name, case.steps) for case in cases]
    runs = [
        record(pairs, schedulers=2 - number % 2, disturbed=number if number > 1 else None)
        for number in range(rounds)
    ]
    return {name: [run[name] for run in runs] for name in runs[0] if all(name in run for run in runs)}


def truths_of(cases: list[Case], rounds: int, again: int = 20) -> dict[str, tuple[Recording, Truth]]:
    """What real OTP did first in each scenario, and what it always does.

    What differs from ours is recorded `again` times more: a race may look the same a few times over.
    """
    recordings = recordings_of(cases, rounds)
    known = [case for case in cases if case.name in recordings]
    suspects = [case for case in known if first_difference(case, Truth.of(recordings[case.name])) is not None]
    for name, more in (recordings_of(suspects, again) if suspects else {}).items():
        recordings[name] += more
    return {name: (runs[0], Truth.of(runs)) for name, runs in recordings.items()}


def against_erlang(cases: list[Case], rounds: int) -> int:
    """Compares with real OTP and prints the differences; how many there are."""
    truths = truths_of(cases, rounds)
    compared = steps = differing = 0
    for case in cases:
        if case.name not in truths:
            print(f"{case.name}: not recorded")
            continue
        first, truth = truths[case.name]
        compared, steps = compared + 1, steps + len(truth.steps)
        difference = first_difference(case, truth)
        if difference is not None:
            differing += 1
            report(case, difference[0], first.trace[difference[0]], difference[1])
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


def write_recordings(cases: list[Case], rounds: int, file: Path) -> None:
    """Records on real OTP, several times, and keeps what all have in common: `supervised` tells in which steps its order is."""
    truths = truths_of(cases, rounds)
    lines: list[str] = []
    for case in cases:
        if case.name in truths:
            first, truth = truths[case.name]
            limit = len(truth.steps)
            recording = {
                "name": case.name,
                "steps": case.steps[:limit],
                "trace": first.trace[:limit],
                "supervised": [step.supervised is not None for step in truth.steps],
                "alive": truth.alive,
            }
            lines.append(json.dumps(recording, separators=(",", ":")))
    file.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{len(lines)} recordings in {file}")


def recorded_truth(recording: Json) -> Truth:
    """What a line of such a file says."""
    steps: list[Common] = []
    for events, supervised in zip(recording["trace"], recording["supervised"], strict=True):
        step = Common.of([events])
        assert step is not None
        steps.append(step if supervised else replace(step, supervised=None))
    return Truth(steps, recording["alive"])


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


def beyond(places: list[Path], cases: Iterator[Case]) -> Iterator[Case]:
    """Those of the cases that bring together what no scenario in `places` does, nor a case before."""
    novel = Novel(Scenario.load(file).steps for file in scenario_files(places))
    return (case for case in cases if novel.takes(case.steps))


def main(arguments: list[str]) -> int:
    """Makes the scenarios and has them compared; 1 if any differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.otp.differential", description=__doc__)
    parser.add_argument(
        "places", nargs="*", type=Path, metavar="DIR", help="recorded scenarios; none: those of --kind"
    )
    parser.add_argument("--kind", choices=["machines", *MADE], default="machines", help="made from nothing")
    parser.add_argument("--count", type=int, default=300, metavar="N", help="scenarios (default 300)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which (default 0)")
    parser.add_argument(
        "--rounds", type=int, default=6, metavar="N", help="recordings of each on real OTP (default 6)"
    )
    parser.add_argument(
        "--beyond",
        action="append",
        type=Path,
        metavar="DIR",
        help="only what no scenario there brings together",
    )
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--erlang", action="store_true", help="compare with real Erlang/OTP")
    other.add_argument("--tree", type=Path, metavar="DIR", help="compare with this checkout's runtime")
    other.add_argument("--record", type=Path, metavar="FILE", help="write what real Erlang/OTP did")
    options = parser.parse_args(arguments)
    # Crash reports are what scenarios are made of.
    logging.getLogger("runtime").setLevel(logging.CRITICAL + 1)
    made = cases_of(options.places, options.count, options.seed, options.kind)
    cases = list(beyond(options.beyond, made) if options.beyond else made)
    if options.record is not None:
        write_recordings(cases, options.rounds, options.record)
        return 0
    differing = against_erlang(cases, options.rounds) if options.erlang else against_tree(cases, options.tree)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
