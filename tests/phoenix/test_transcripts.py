"""The wire transcripts of a real Phoenix server, replayed on ours; and that the replay would see a difference."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.phoenix.__main__ import REPLAY, load_player, main, play, transcripts
from tests.phoenix.differences import DIFFERENCES

PLACE = Path(os.environ.get("PHOENIX_TRANSCRIPTS", REPLAY.parent))


def test_transcripts_are_there() -> None:
    assert len(transcripts([str(PLACE)])) > 300, (
        f"no transcripts in {PLACE}: name their folder in PHOENIX_TRANSCRIPTS"
    )


@pytest.mark.long
def test_transcripts(capsys: pytest.CaptureFixture[str]) -> None:
    logging.disable(logging.CRITICAL)
    try:
        failed = uvloop.run(main(transcripts([str(PLACE)]), 12))
    finally:
        logging.disable(logging.NOTSET)
    assert failed == 0, capsys.readouterr().out


def test_the_documented_differences_are_few_and_exist() -> None:
    names = {str(path.relative_to(PLACE).with_suffix("")) for path in transcripts([str(PLACE)])}
    assert set(DIFFERENCES) <= names and len(DIFFERENCES) <= 5


def test_a_difference_is_seen() -> None:
    async def body(transcript: dict[str, Any]) -> list[Any]:
        from runtime.core.asyncio_engine import AsyncioEngine

        engine = AsyncioEngine().start()
        try:
            return await play(load_player(), transcript)
        finally:
            await engine.stop()

    path = PLACE / "heartbeat" / "v2_int_ref.json"
    transcript = json.loads(path.read_text())
    assert asyncio.run(body(transcript)) == []
    transcript["expect"][1]["A"][0]["text"][1] = "7"
    bad = asyncio.run(body(transcript))
    assert [(step, connection) for step, connection, _expected, _got in bad] == [(1, "A")]
