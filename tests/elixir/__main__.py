"""The command: `python -m tests.elixir [--random N] [--seed S] [--record]`: programs in Elixir and here, and where they differ.

`--random N` makes N random ones of each kind (`random_programs`) instead of those that are written down. `--record` writes what
Elixir printed to `recorded.json` or `recorded_random.json`, which `tests/runtime/test_elixir_recorded.py` holds the runtime to.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from runtime import Down, Pid, erlang
from runtime.testing.simulation import play
from tests.otp.real_erlang import term

from . import agents_and_processes, registries, supervisors, task_supervisors, tasks
from .performer import Op, perform_here
from .program import PROGRAMS, show
from .random_programs import random_programs

# They have put theirs in.
assert all((agents_and_processes, registries, supervisors, task_supervisors, tasks))

PLACE = Path(__file__).parent
RECORDED = PLACE / "recorded.json"
RECORDED_RANDOM = PLACE / "recorded_random.json"


def elixir() -> dict[str, str]:
    """What each program printed in Elixir."""
    command = ["elixir", str(PLACE / "programs.exs")]
    lines = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    ).stdout.splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def elixir_random(programs: dict[str, list[Op]], runs: int = 3) -> dict[str, list[str]]:
    """What random programs printed in Elixir. One that differs from ours is run again: a busy machine may miss a timeout."""
    printed: dict[str, list[str]] = {}
    left = dict(programs)
    for _ in range(runs):
        with TemporaryDirectory() as place:
            file = Path(place) / "programs"
            file.write_text(
                "".join(f"{{{term(name)},{term(ops)}}}.\n" for name, ops in left.items()), encoding="utf-8"
            )
            command = ["elixir", str(PLACE / "random.exs"), str(file)]
            output = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, timeout=900
            ).stdout
        for line in output.splitlines():
            name, *lines = line.split("\t")
            printed[name] = lines
        left = {name: ops for name, ops in left.items() if printed.get(name) != perform_here(ops)}
        if not left:
            break
    return printed


def here(name: str) -> str:
    """What it comes to on the runtime, in a process of its own."""

    async def run(to: Pid) -> None:
        erlang.send(to, ("result", await PROGRAMS[name]()))

    async def body() -> str:
        pid, ref = erlang.spawn_monitor(run, erlang.self_())
        match await erlang.receive(timeout=20_000):
            case ("result", result):
                erlang.exit(pid, "kill")
                return show(result)
            case Down(reason=reason) as down if down.ref is ref:
                return f"CRASHED {reason}"
        return "STUCK"

    return play(body)


def main(arguments: list[str]) -> int:
    """Compares, or records; 1 if any program differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.elixir", description=__doc__)
    parser.add_argument("--random", type=int, metavar="N", help="random programs, N of each kind")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which random ones (default 0)")
    parser.add_argument("--record", action="store_true", help="write what Elixir did to a file")
    options = parser.parse_args(arguments)
    log = logging.getLogger("runtime")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # crash reports are what the programs are made of
    try:
        if options.random is not None:
            return compare_random(options.random, options.seed, options.record)
        expected = elixir()
        if options.record:
            write(RECORDED, expected)
            return 0
        differing = compare(expected)
    finally:
        log.setLevel(level)  # the tests call this in their own process
    print(f"{len(expected)} programs compared with Elixir, {differing} differ")
    return 1 if differing else 0


def compare_random(count: int, seed: int, record: bool) -> int:
    """As `main`, of random programs."""
    programs = dict(random_programs(count, seed))
    printed = elixir_random(programs)
    if record:
        write(RECORDED_RANDOM, {name: [programs[name], printed[name]] for name in programs})
        return 0
    differing = 0
    for name, ops in programs.items():
        theirs, ours = printed.get(name, ["missing"]), perform_here(ops)
        if theirs != ours:
            differing += 1
            print(f"DIFFERS {name}: {ops}\n  Elixir: {theirs}\n  here:   {ours}")
    print(f"{len(programs)} programs compared with Elixir, {differing} differ")
    return 1 if differing else 0


def write(file: Path, recordings: dict[str, Any]) -> None:
    """A line for each, so that a change shows which."""
    lines = (
        f"{json.dumps(name)}:{json.dumps(recordings[name], separators=(',', ':'))}"
        for name in sorted(recordings)
    )
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(recordings)} recordings in {file}")


def compare(expected: dict[str, str]) -> int:
    """Prints the programs that differ; how many."""
    differing = 0
    for name in sorted(expected | PROGRAMS):
        ours = here(name) if name in PROGRAMS else "no such program"
        if ours != expected.get(name):
            differing += 1
            print(f"DIFFERS {name}\n  Elixir: {expected.get(name)}\n  here:   {ours}")
    return differing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
