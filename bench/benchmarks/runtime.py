"""What a process costs: spawn, send, call, restart, memory; beside Erlang where it is installed, and the actor libraries of PyPI.

Each system is a process of its own that prints its figures (bench/runtime_peers.py, bench/peers/erlang.escript), CPU of all its
threads. A commit's figures come from its own bench/runtime_peers.py, which must stay where it is. `Thespian actors on it` are
plain actors of Thespian on our system base, beside Thespian's own. The libraries run once: they are slow, and only for scale.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.figures import Row
from bench.revision import ROOT, Revision
from bench.run import Lacks, Run, Task

PROGRAM = "bench.runtime_peers"
LIMIT = 150  # seconds for one system
LIBRARIES = ("thespian simple", "pykka", "triotp", "otpylib")
ERLANG = "Erlang/OTP"
FIGURES = {  # what a program prints -> its row, and the factor to the row's unit
    "spawn": (Row("spawn a process", "us CPU"), 1e6),
    "send": (Row("send and handle a message", "us CPU"), 1e6),
    "call": (Row("call without timeout", "us CPU"), 1e6),
    "call with timeout": (Row("call with timeout", "us CPU"), 1e6),
    "restart": (Row("crash and restart under a supervisor", "us CPU"), 1e6),
    "memory": (Row("memory of a process at rest", "bytes"), 1.0),
    "100k": (Row("start 100,000 processes", "s CPU"), 1.0),
}
ROWS = tuple(row for row, _ in FIGURES.values())
Printed = dict[str, float]


def printed(command: Sequence[str], where: Path, environment: dict[str, str]) -> list[str]:
    """A program's lines. Raises Lacks when it fails."""
    try:
        done = subprocess.run(
            command, cwd=where, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        raise Lacks(f"did not end within {LIMIT} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise Lacks((done.stderr.strip().splitlines() or ["ended without a word"])[-1])
    return lines


def of_revision(revision: Revision, system: str = "ours") -> Printed:
    """A commit's figures, by its own program. Raises Lacks."""
    if not revision.has(PROGRAM):
        raise Lacks(f"has no {PROGRAM}")
    command = [revision.python, "-m", PROGRAM, system]
    return json.loads(printed(command, revision.root, revision.environment())[-1])


def of_library(system: str) -> Printed:
    """A library's figures. Raises Lacks."""
    return json.loads(printed([sys.executable, "-m", PROGRAM, system], ROOT, dict(os.environ))[-1])


def of_erlang() -> Printed:
    """Erlang's figures in our units. Raises Lacks."""
    if shutil.which("escript") is None:
        raise Lacks("not installed")
    found: Printed = {}
    for line in printed(["escript", str(ROOT / "bench/peers/erlang.escript")], ROOT, dict(os.environ)):
        name, _, value = line.partition(" ")
        name = name.replace("_", " ")
        found[name] = float(value) if name == "memory" else float(value) / 1e6
    return found


async def load(run: Run) -> None:
    """This commit, the earlier one and Erlang in turns; then the libraries, once."""
    now = run.revisions[0]
    systems = {revision.name: (of_revision, revision) for revision in run.revisions}
    systems |= {ERLANG: (of_erlang,)}
    once = {"Thespian actors on it": (of_revision, now, "ours, Thespian actors")}
    once |= {library: (of_library, library) for library in LIBRARIES}

    async def all_rows(system: Sequence) -> list[float | None]:  # type: ignore[type-arg]
        found = await asyncio.to_thread(*system)
        return [found[key] * factor if key in found else None for key, (_, factor) in FIGURES.items()]

    await run.alternate([Task(ROWS, all_rows)], systems, warm_up=False)
    await run.alternate([Task(ROWS, all_rows)], once, rounds=1, warm_up=False)


def benchmark(run: Run) -> None:
    """Measures the rows."""
    uvloop.run(load(run))
