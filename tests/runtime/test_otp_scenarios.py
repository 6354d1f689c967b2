"""The recorded OTP scenarios, replayed on the runtime; and that the replay would see a difference."""

from __future__ import annotations

import copy
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from tests.otp.__main__ import check, describe, main, scenario_files
from tests.otp.comparison import compare, problems_of_step
from tests.otp.scenario import Scenario, replay

ROOT = Path(__file__).resolve().parents[2]
PLACE = Path(os.environ.get("OTP_SCENARIOS", ROOT.parent / "shared" / "otp"))
SEEDS = range(3)


def scenarios() -> list[Path]:
    return scenario_files([PLACE]) if PLACE.is_dir() else []


def test_scenarios_are_there() -> None:
    assert scenarios(), f"no OTP scenarios in {PLACE}: put them there, or name their folder in OTP_SCENARIOS"


@pytest.mark.parametrize(
    "topic", sorted({path.parent for path in scenarios()}), ids=lambda path: str(path.relative_to(PLACE))
)
def test_scenarios(topic: Path) -> None:
    failures: list[str] = []
    for path in topic.glob("*.json"):
        scenario = Scenario.load(path)
        seed, differences = check(scenario, SEEDS)
        if differences:
            failures.append(describe(scenario, seed, differences))
    assert not failures, "\n".join(failures)


def test_one_seed_is_one_trace() -> None:
    for path in scenarios()[::50]:
        scenario = Scenario.load(path)
        assert replay(scenario.steps, 7) == replay(scenario.steps, 7)


def oracle_rule() -> Any:
    """The rule as the recorders published it."""
    spec = importlib.util.spec_from_file_location("oracle_compare", PLACE / "compare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compare


def test_comparison_is_the_published_rule() -> None:
    rule = oracle_rule()
    differing = 0
    for path in scenarios()[::10]:
        scenario = Scenario.load(path)
        for expected, order in zip(scenario.trace, scenario.order, strict=True):
            for got in (expected, expected[::-1], expected[1:], [*expected, ["recv", "driver#1", "extra"]]):
                ours = bool(problems_of_step(expected, order, got))
                assert ours == bool(rule(expected, order, got)), (path, got)
                differing += ours
    assert differing > 100


def test_a_difference_is_seen_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [{"by": "driver", "do": [{"op": "spawn", "id": "p"}, {"op": "is_alive", "to": "p"}]}]
    trace: list[list[Any]] = [
        [["ok", "driver#1", "spawn", {"pid": "p#1"}], ["ok", "driver#1", "is_alive", "true"]]
    ]
    good = Scenario("mine/alive", steps, trace, ["total"], ["driver#1", "p#1"])
    assert compare(good, *replay(steps, 0)) == []
    wrong = copy.deepcopy(trace)
    wrong[0][1][3] = "false"
    swapped = Scenario("mine/swapped", steps, [trace[0][::-1]], ["total"], good.alive)
    assert compare(swapped, *replay(steps, 0))[0].step == 0
    bad = Scenario("mine/alive", steps, wrong, ["total"], ["driver#1"])
    differences = compare(bad, *replay(steps, 0))
    assert [difference.step for difference in differences] == [0, None]
    text = describe(bad, 0, differences)
    assert "expected" in text and "got" in text and "is_alive" in text
    (tmp_path / "broken.json").write_text("{}")
    assert main([str(tmp_path)]) == 1
    assert "0 passed, 1 failed" in capsys.readouterr().out
