"""The examples run as their first line says, print what they should, and stay short."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.phoenix.transport_server import Wire

ROOT = Path(__file__).resolve().parents[2]
PRINTED = {
    "counter": ["count: 15", "after the crash: 10"],
    "worker_pool": [
        "ok ann, job 1 of its worker",
        "ok eve, job 1 of its worker",
        "ok ann, job 2 of its worker",
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
    assert files.keys() == {*PRINTED, "chat_room"}
    for file in files.values():
        assert len(file.read_text().splitlines()) < 60, file


def test_the_chat_room_is_a_server() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.chat_room"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(":", 1)[1])

        async def talk() -> list[str]:
            ann, bob = [await Wire.connect(port, "/socket/websocket?vsn=2.0.0") for _ in range(2)]
            heard: list[str] = []
            for wire, name in ((ann, "ann"), (bob, "bob")):
                wire.send(["1", "1", "room:lobby", "phx_join", {"name": name}])
                assert (await wire.receive())[3] == "phx_reply"
                heard.append((await ann.receive())[4]["text"])
            bob.writer.close()
            heard.append((await ann.receive())[4]["text"])
            ann.writer.close()
            return heard

        assert asyncio.run(talk()) == ["ann joined", "bob joined", "bob left"]
    finally:
        process.kill()
        process.wait()
