"""Interleavings: the pytest plugin, charts of what happened, and shrinking to the shortest that fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime import GenServer, erlang, gen_server
from runtime.testing.sequence_chart import mermaid, text
from runtime.testing.shrinking import shrink
from runtime.testing.simulation import Simulation, explore

TEST = """
from runtime import erlang

async def say(probe, word):
    erlang.send(probe, word)

def test_order(simulation):
    probe = simulation.probe("probe")
    for word in ("one", "two", "three"):
        simulation.spawn(say, probe.pid, word, name=word)
    simulation.run()
    assert probe.messages == ["one", "two", "three"]

def test_that_holds(simulation):
    assert simulation.run() == 0
"""


class Account(GenServer):
    """Keeps an amount."""

    def init(self) -> None:
        self.amount = 0

    def handle_call(self, request: object, from_: gen_server.From) -> gen_server.Reply:
        if request == "read":
            return gen_server.Reply(self.amount)
        assert isinstance(request, int)
        self.amount = request
        return gen_server.Reply("ok")


def race(sim: Simulation) -> None:
    """Fails if the third word comes before the first."""
    probe = sim.probe("probe")
    for word in ("one", "two", "three"):
        sim.spawn(erlang.send, probe.pid, word, name=word)
    sim.run()
    assert probe.messages.index("one") < probe.messages.index("three")


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_words.py").write_text(TEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "runtime.testing.pytest_plugin",
        "-p",
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=200, check=False,
        env={"PYTHONPATH": str(Path.cwd()), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def test_the_plugin_runs_many_seeds_and_repeats_the_one_that_fails(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--interleavings", "12")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_that_holds" not in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("seed "))
    seed = line.split()[1].strip(";")
    assert line.endswith(f"again: pytest 'test_words.py::test_order' --interleaving-seed {seed}")
    again = run_pytest(
        tmp_path, "--interleaving-seed", seed, "--shrink-interleavings", "test_words.py::test_order"
    )
    assert again.returncode == 1
    assert "1 failed" in again.stdout
    assert f"test_order[seed {seed}]" in again.stdout
    assert "Simulation(choices=[" in again.stdout


def test_a_wrong_number_of_interleavings_is_refused(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, "--interleavings", "0").returncode == 4


def failing_seed() -> int:
    for seed in range(100):
        try:
            explore(race, seeds=[seed])
        except AssertionError:
            return seed
    raise AssertionError("no seed fails")


def test_shrinking_finds_the_one_choice_that_matters() -> None:
    found = shrink(race, failing_seed())
    assert sum(map(bool, found.choices)) == 1
    assert isinstance(found.error, AssertionError)
    with pytest.raises(AssertionError), Simulation(choices=found.choices) as sim:
        race(sim)
    race(Simulation(choices=[]))
    assert "three" in found.chart
    assert found.mermaid.startswith("sequenceDiagram")


def test_a_scenario_that_does_not_fail_is_not_shrunk() -> None:
    with pytest.raises(ValueError, match="does not fail"):
        shrink(lambda sim: sim.run(), 3)


def test_one_list_of_choices_is_one_run() -> None:
    traces: list[str] = []
    for _ in range(2):
        with Simulation(seed=5) as sim:
            sim.start(Account)
            traces.append(sim.trace)
            choices = sim.choices
        with Simulation(choices=choices) as sim:
            sim.start(Account)
            traces.append(sim.trace)
    assert len(set(traces)) == 1


def test_the_chart_shows_messages_signals_and_ends() -> None:
    with Simulation() as sim:
        sim.start(Account, name="account")
        probe = sim.probe("probe")
        sim.spawn(erlang.send, probe.pid, "hello; #1", name="sender")
        sim.run()
        sim.exit("account", "boom")
        chart, diagram = sim.chart(), sim.mermaid()
        short = sim.chart(limit=1)
    sent = next(line for line in chart.splitlines() if "hello" in line)
    assert "'hello; #1'" in sent
    assert (">" in sent) != ("<" in sent)
    assert "X boom" in chart
    assert "'hello#59; #35;1'".replace("'", "#39;") in diagram
    assert "Note over" in diagram
    assert short.startswith("(")
    assert text([]) == "(nothing happened)"
    assert mermaid([]) == "sequenceDiagram"
