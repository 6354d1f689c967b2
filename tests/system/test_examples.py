"""The examples run as their first line says, print what they should, and stay short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRINTED = {
    "counter": ["count: 15", "after the crash: 10"],
    "worker_pool": [
        "ok ann, job 1 of its worker",
        "ok eve, job 1 of its worker",
        "ok ann, job 2 of its worker",
    ],
    "chat_room": [
        "ann hears: ann joined",
        "ann hears: bob joined",
        "bob hears: bob joined",
        "bob hears: ann left: connection lost",
    ],
}


@pytest.mark.parametrize("name", PRINTED)
def test_example(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", f"examples.{name}"], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == PRINTED[name]


def test_all_examples_are_run_and_are_short() -> None:
    files = {file.stem: file for file in (ROOT / "examples").glob("*.py") if file.stem != "__init__"}
    assert files.keys() == PRINTED.keys()
    for file in files.values():
        assert len(file.read_text().splitlines()) < 40, file
