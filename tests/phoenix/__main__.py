"""Replays every transcript below the given folders, each against a fresh server, several at once.

Usage: python -m tests.phoenix DIR... [--filter TEXT] [--lanes N]
The player is `replay.py` beside the transcripts: ../shared/phoenix from the repository, or PHOENIX_REPLAY.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import logging
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import uvloop

from runtime.core.asyncio_engine import AsyncioEngine
from tests.phoenix.conformance_app import ConformanceServer
from tests.phoenix.differences import DIFFERENCES

ROOT = Path(__file__).resolve().parents[2]
REPLAY = Path(os.environ.get("PHOENIX_REPLAY") or ROOT.parent / "shared" / "phoenix" / "replay.py")

STALL = 0.3  # seconds of no machine that may make a difference
TRIES = 4


def load_player() -> ModuleType:
    """replay.py as a module."""
    spec = importlib.util.spec_from_file_location("phoenix_replay", REPLAY)
    if spec is None or spec.loader is None or not REPLAY.is_file():
        raise SystemExit(f"no player at {REPLAY}: set PHOENIX_REPLAY")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.time = PatientClock()  # type: ignore[attr-defined]
    return module


class PatientClock:
    """The player's clock.

    A step is over when nothing has come for a while, and the player looks at the clock every 50 ms of it: when the machine
    lets nobody run for longer, that is no silence of the server, which runs in this process, too.
    """

    LOOK = 0.06

    def __init__(self) -> None:
        self.lost = 0.0  # seconds of such pauses: the server's own clock has gone on meanwhile
        self._now = 0.0
        self._looked = time.monotonic()

    def monotonic(self) -> float:
        """Seconds, of which a pause between two looks adds no more than LOOK."""
        looked, self._looked = self._looked, time.monotonic()
        passed = min(self._looked - looked, self.LOOK)
        self.lost += self._looked - looked - passed
        self._now += passed
        return self._now


def transcripts(folders: list[str]) -> list[Path]:
    """All transcripts below the folders, sorted."""
    found = {path for folder in folders for path in Path(folder).rglob("*.json")}
    return sorted(found)


async def play(player: ModuleType, transcript: dict[str, Any]) -> list[Any]:
    """The differences between what Phoenix answered and what we do."""
    server = ConformanceServer()
    port = await server.start()
    try:
        got = await player.Player("127.0.0.1", port, 200, server.shutdown).run(transcript)
    finally:
        await server.stop()
    return player.compare(transcript, got)


async def play_in_time(player: ModuleType, transcript: dict[str, Any]) -> list[Any]:
    """As `play`, again where the machine stood still meanwhile: a socket that may be idle for a second was idle for longer."""
    for _ in range(TRIES - 1):
        lost = player.time.lost
        bad = await play(player, transcript)
        if not bad or player.time.lost - lost < STALL:
            return bad
    return await play(player, transcript)


def report(transcript: dict[str, Any], bad: list[Any]) -> None:
    """The first difference of a file."""
    step, connection, expected, actual = bad[0]
    print("FAIL", transcript["name"])
    print("    step", step, "on", connection, json.dumps(transcript["steps"][step])[:300])
    print("      expected", json.dumps(expected)[:600])
    print("      got     ", json.dumps(actual)[:600])


async def main(paths: list[Path], lanes: int) -> int:
    """Plays all; returns how many failed."""
    engine = AsyncioEngine().start()
    player = load_player()
    waiting = list(reversed(paths))
    passed = failed = 0

    async def lane() -> None:
        nonlocal passed, failed
        while waiting:
            path = waiting.pop()
            transcript = json.loads(path.read_text())
            bad = await play_in_time(player, transcript)
            if transcript["name"] in DIFFERENCES:
                print("same" if not bad else "differs, as documented:", transcript["name"])
                bad = []
            if bad:
                failed += 1
                report(transcript, bad)
            else:
                passed += 1

    await asyncio.gather(*(lane() for _ in range(lanes)))
    await engine.stop()
    print(f"{passed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.phoenix")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--filter", default="", help="only files whose path contains this")
    parser.add_argument("--lanes", type=int, default=12, help="how many servers play at once")
    arguments = parser.parse_args()
    if not os.environ.get("PHOENIX_LOG"):
        logging.disable(logging.CRITICAL)  # crashes are what many of these transcripts are about
    chosen = [path for path in transcripts(arguments.folders) if arguments.filter in str(path)]
    sys.exit(1 if uvloop.run(main(chosen, arguments.lanes)) or not chosen else 0)
