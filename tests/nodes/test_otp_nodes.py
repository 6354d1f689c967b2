"""The scenarios recorded on connected Erlang nodes, on a simulated cluster; and that the replay would see a difference."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtime.testing.cluster import Cluster
from tests.otp.__main__ import describe, scenario_files
from tests.otp.comparison import compare
from tests.otp_nodes.__main__ import check, main
from tests.otp_nodes.nats_cluster import NatsCluster, nats_server
from tests.otp_nodes.random_grammar import NodeGrammar
from tests.otp_nodes.world import NodeScenario, replay

ROOT = Path(__file__).resolve().parent.parent.parent
PLACE = Path(os.environ.get("OTP_NODES_SCENARIOS", ROOT.parent / "shared" / "otp_nodes"))
RECORDED = ROOT / "tests" / "otp_nodes" / "recorded"  # ours, from the Erlang that Debian has
SEEDS = range(3)


def scenarios() -> list[Path]:
    return scenario_files([PLACE] if PLACE.is_dir() else [])


def test_scenarios_are_there() -> None:
    assert scenarios(), (
        f"no scenarios in {PLACE}: put them there, or name their folder in OTP_NODES_SCENARIOS"
    )


topics = pytest.mark.parametrize(
    "topic", sorted({RECORDED, *(path.parent for path in scenarios())}), ids=lambda path: path.name
)


def differing(topic: Path, seeds: range, make: Any = Cluster) -> str:
    """What the replay of a topic's scenarios does otherwise than Erlang."""
    failures: list[str] = []
    for path in topic.glob("*.json"):
        scenario = NodeScenario.load(path)
        seed, differences = check(scenario, seeds, make)
        if differences:
            failures.append(describe(scenario, seed, differences))  # type: ignore[arg-type]
    return "\n".join(failures)


@topics
def test_scenarios(topic: Path) -> None:
    assert not differing(topic, SEEDS)


@topics
def test_scenarios_over_nats(topic: Path) -> None:
    with nats_server() as NatsCluster.url:
        assert not differing(topic, SEEDS[:1], NatsCluster)


def test_one_seed_is_one_trace() -> None:
    for path in scenarios()[::40]:
        scenario = NodeScenario.load(path)
        assert replay(scenario, 7) == replay(scenario, 7)


@pytest.mark.parametrize("seed", range(12))
def test_random_scenarios_have_one_trace_for_a_seed(seed: int) -> None:
    content = NodeGrammar(Random(seed)).content()
    scenario = NodeScenario(f"random/{seed}", content, content["steps"], [], [], [])
    trace, alive = replay(scenario, seed)
    assert (trace, alive) == replay(scenario, seed)
    assert any(trace)


def test_a_difference_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = NodeScenario.load(next(path for path in scenarios() if path.parent.name == "links"))
    trace, alive = replay(scenario, 0)
    wrong = copy.deepcopy(scenario.trace)
    wrong[0].append(["recv", "driver#1", "never"])
    assert compare(replace(scenario, trace=wrong), trace, alive)  # type: ignore[arg-type]
    assert compare(replace(scenario, alive=[]), trace, alive)  # type: ignore[arg-type]
    (tmp_path / "broken.json").write_text("{}")
    assert main([str(tmp_path)]) == 1
    assert "0 passed, 1 failed" in capsys.readouterr().out
