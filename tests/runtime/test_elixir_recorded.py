"""What Elixir did in small programs, written ones and random ones (`python -m tests.elixir --record`): we do the same."""

from __future__ import annotations

import json
import logging

import pytest

from tests.elixir import __main__ as command
from tests.elixir.performer import perform_here
from tests.elixir.random_programs import random_programs

RECORDED = json.loads(command.RECORDED.read_text())
RANDOM = json.loads(command.RECORDED_RANDOM.read_text())


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


def test_there_are_random_programs_of_every_kind() -> None:
    assert {name.split("/")[0] for name in RANDOM} == {"registry", "children", "tasks"} and len(RANDOM) >= 90
    assert dict(random_programs(3, 5)) == dict(random_programs(3, 5)) != dict(random_programs(3, 6))


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_we_do_what_elixir_did_in_a_random_program(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "runtime")
    program, printed = RANDOM[name]
    assert perform_here(program) == printed
