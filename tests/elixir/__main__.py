"""The command: `python -m tests.elixir [--record]`: runs the programs in Elixir and here and prints where they differ.

`--record` writes what Elixir printed to `recorded.json`, which `tests/runtime/test_elixir_recorded.py` holds the runtime to.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path

from runtime import Down, Pid, erlang
from runtime.testing.simulation import play

from . import agents_and_processes, registries, supervisors, task_supervisors, tasks
from .program import PROGRAMS, show

assert all(
    (agents_and_processes, registries, supervisors, task_supervisors, tasks)
)  # they have put theirs in

PLACE = Path(__file__).parent
RECORDED = PLACE / "recorded.json"


def elixir() -> dict[str, str]:
    """What each program printed in Elixir."""
    command = ["elixir", str(PLACE / "programs.exs")]
    lines = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    ).stdout.splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


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
    parser.add_argument("--record", action="store_true", help=f"write what Elixir did to {RECORDED.name}")
    options = parser.parse_args(arguments)
    expected = elixir()
    if options.record:
        RECORDED.write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{len(expected)} recordings in {RECORDED}")
        return 0
    log = logging.getLogger("runtime")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # crash reports are what the programs are made of
    try:
        differing = compare(expected)
    finally:
        log.setLevel(level)  # the tests call this in their own process
    print(f"{len(expected)} programs compared with Elixir, {differing} differ")
    return 1 if differing else 0


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
