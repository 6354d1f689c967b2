"""What a process costs: spawn, send, call, restart, memory; beside the actor libraries of PyPI, and Erlang where it is installed.

All in one run, each system in a process of its own (bench/runtime_peers.py, bench/runtime_erlang.escript). Our own
`ours` are OTP processes on uvloop; `ours, Thespian actors` are plain Thespian actors on our system base, which stand
beside Thespian's simpleSystemBase. The note says how many times the best Python peer costs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from bench.row import Row

HERE = Path(__file__).parent
LIMIT = 150  # seconds for one system
PYTHON_PEERS = ("thespian simple", "pykka", "triotp", "otpylib")
QUESTIONS = {  # figure -> (what, unit, factor, mark measured with BEAM)
    "spawn": ("spawn a process", "us of CPU", 1e6, 2.0),
    "send": ("send and handle a message", "us of CPU", 1e6, 0.18),
    "call": ("call without timeout", "us of CPU", 1e6, 1.7),
    "call with timeout": ("call with timeout", "us of CPU", 1e6, None),
    "restart": ("crash and restart under a supervisor", "us of CPU", 1e6, 68.0),
    "memory": ("memory per idle process", "bytes", 1.0, None),
    "100k": ("start 100,000 processes", "s of CPU", 1.0, None),
}


def python(name: str) -> dict[str, float]:
    """The figures of one Python system; those it does not have are missing."""
    command = [sys.executable, "-m", "bench.runtime_peers", name]
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 and lines else {}


def erlang() -> dict[str, float]:
    """Erlang's figures in our units, {} where it is not installed."""
    if shutil.which("escript") is None:
        return {}
    command = ["escript", str(HERE / "runtime_erlang.escript")]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=LIMIT, check=False
    )
    found = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        name = name.replace("_", " ")
        found[name] = float(value) if name == "memory" else float(value) / 1e6
    return found


def run() -> list[Row]:
    """Each system once, then one row a question."""
    ours, actors = python("ours"), python("ours, Thespian actors")
    peers = {name: python(name) for name in PYTHON_PEERS}
    beam = erlang()
    rows: list[Row] = []
    for key, (what, unit, factor, mark) in QUESTIONS.items():
        beside = {name: figures[key] * factor for name, figures in peers.items() if key in figures}
        note = ""
        if beside:
            note = f"best Python peer costs {min(beside.values()) / (ours[key] * factor):.1f} times"
        if key in actors:
            beside = {"ours, Thespian actors": actors[key] * factor, **beside}
        if key in beam:
            beside["Erlang"] = beam[key] * factor
        rows.append(
            Row(
                what,
                ours[key] * factor,
                unit,
                beside,
                mark,
                "BEAM",
                note=note,
            )
        )
    return rows
