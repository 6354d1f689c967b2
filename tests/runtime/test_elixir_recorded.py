"""What Elixir did in small programs (`python -m tests.elixir --record`), held against the runtime."""

from __future__ import annotations

import json
import logging

import pytest

from tests.elixir import __main__ as command

RECORDED = json.loads(command.RECORDED.read_text())


def test_every_program_is_recorded_and_there_is_one_for_every_recording() -> None:
    assert RECORDED.keys() == command.PROGRAMS.keys()
    assert len(RECORDED) >= 75
    assert not [name for name, result in RECORDED.items() if result.startswith(("CRASHED", "STUCK"))]


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_we_do_what_elixir_did(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "runtime")  # crash reports are what the programs are made of
    assert command.here(name) == RECORDED[name]


def test_a_difference_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "elixir", lambda: {**RECORDED, "agent_args": "[]"})
    monkeypatch.setattr(command, "PROGRAMS", {"agent_args": command.PROGRAMS["agent_args"]})
    assert command.main([]) == 1
    assert "DIFFERS agent_args\n  Elixir: []\n  here:   [13, ok, 12]" in capsys.readouterr().out
