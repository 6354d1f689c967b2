"""What real Erlang/OTP 25 did in generated scenarios (`python -m tests.otp.differential --record`), replayed.

Each was recorded several times, left alone and disturbed; what these have in common is what OTP forces, up to its first race.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.otp.differential import Case, Truth, against_erlang, first_difference, recorded_truth
from tests.otp.machine_scenarios import machine_scenarios
from tests.otp.made_scenarios import MADE
from tests.otp.mutations import Pool, mutations
from tests.otp.pairs import Novel, features
from tests.otp.real_erlang import Recording, term
from tests.otp.scenario import replay

RECORDED = sorted((Path(__file__).parents[1] / "otp" / "recorded").glob("*.json"))


def recordings() -> list[Any]:
    return [recording for file in RECORDED for recording in json.loads(file.read_text())]


def test_there_are_recordings_of_every_kind() -> None:
    assert {"state_machines", "mutated", *MADE} == {file.stem for file in RECORDED}
    assert sum(len(recording["steps"]) for recording in recordings()) > 1000


@pytest.mark.parametrize("recording", recordings(), ids=lambda recording: recording["name"])
def test_we_do_what_otp_did(recording: Any) -> None:
    case = Case(recording["name"], recording["steps"])
    assert first_difference(case, recorded_truth(recording)) is None


def test_a_difference_is_found() -> None:
    recording = next(one for one in recordings() if any(one["trace"]))
    case = Case(recording["name"], recording["steps"])
    trace = [list(events) for events in recording["trace"]]
    at = next(at for at, events in enumerate(trace) if events)
    trace[at] = trace[at][1:]
    difference = first_difference(case, Truth.of([Recording(trace, recording["alive"])]))
    assert difference is not None and difference[0] == at


def test_what_differs_between_recordings_is_a_race() -> None:
    one, other = [["init", "a#1"]], [["init", "a#1"], ["terminate", "a#1", "normal"]]
    assert len(Truth.of([Recording([one, one, one], []), Recording([one, other, one], [])]).steps) == 1
    ab, ba = [["init", "a#1"], ["init", "b#1"]], [["init", "b#1"], ["init", "a#1"]]
    [step] = Truth.of([Recording([ab], ["a#1"]), Recording([ba], [])]).steps
    assert step.supervised is None and step.holds(ab) and step.holds(ba) and not step.holds(one)
    [step] = Truth.of([Recording([ab], []), Recording([ab], [])]).steps
    assert step.holds(ab) and not step.holds(ba)


def test_one_seed_makes_one_set_of_scenarios() -> None:
    mutated = json.loads((RECORDED[0].parent / "mutated.json").read_text())
    pool = Pool([recording["steps"] for recording in mutated])
    assert list(mutations(pool, 50, 3)) == list(mutations(pool, 50, 3))
    assert list(mutations(pool, 50, 3)) != list(mutations(pool, 50, 4))
    assert list(machine_scenarios(20, 3)) == list(machine_scenarios(20, 3))
    for _, steps in [*mutations(pool, 50, 3), *machine_scenarios(20, 3)]:
        assert replay(steps, 5) == replay(steps, 5)


def test_what_no_other_scenario_brings_together_is_novel() -> None:
    def told(op: str, **fields: Any) -> list[Any]:
        return [{"do": [{"op": "spawn", "id": "p"}, {"op": op, "to": "p", **fields}]}]

    link, exit, kill = told("link"), told("exit", reason="boom"), told("exit", reason="kill")
    assert {"exit", 'exit.reason="kill"', "exit.to=plain", "spawn"} <= features(kill)
    novel = Novel([link, exit])
    assert not novel.takes(link) and novel.takes(kill) and not novel.takes(kill)
    assert novel.takes([{"do": [*link[0]["do"], *kill[0]["do"]]}])
    assert not Novel([link], least=100).takes(kill)


def test_terms_are_written_as_erlang_reads_them() -> None:
    value = {"op": "it's", "n": [1, True, {"t": []}]}
    assert term(value) == "#{'op' => 'it\\'s','n' => [1,true,#{'t' => []}]}"


def test_the_comparison_with_erlang_says_what_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [{"do": [{"op": "spawn", "id": "p"}]}, {"do": [{"op": "is_alive", "to": "p"}]}]
    trace, alive = replay(steps, 0)
    wrong = [trace[0], [["ok", "driver#1", "is_alive", "false"]]]
    answers = {"same": Recording(trace, alive), "wrong": Recording(wrong, alive)}
    monkeypatch.setattr("tests.otp.differential.record", lambda _pairs, **_options: answers)
    assert against_erlang([Case("same", steps), Case("wrong", steps), Case("lost", steps)], 2) == 1
    printed = capsys.readouterr().out
    assert "DIFFERS wrong in step 1" in printed and "lost: not recorded" in printed
    assert "2 scenarios with 4 steps compared with real OTP, 1 differ" in printed


def test_what_differs_is_recorded_again_to_tell_a_race(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [{"do": [{"op": "whereis", "name": "nobody"}]}]
    trace, alive = replay(steps, 0)
    rare, usual = Recording(trace, alive), Recording([[["ok", "driver#1", "whereis", "somebody"]]], alive)
    asked: list[Recording] = [usual] * 6 + [usual, rare] * 10
    monkeypatch.setattr("tests.otp.differential.record", lambda _pairs, **_options: {"race": asked.pop(0)})
    assert against_erlang([Case("race", steps)], 6) == 0
    assert (
        asked == [] and "1 scenarios with 0 steps compared with real OTP, 0 differ" in capsys.readouterr().out
    )
