"""A pytest plugin: the fixture `simulation`, with which a test runs under several interleavings.

    def test_transfer(simulation):
        server = simulation.start(Server)
        ...

    pytest --interleavings 200                  # each test with the fixture, under the seeds 0 to 199
    pytest --interleaving-seed 17 ...           # repeats the one that failed
    pytest --shrink-interleavings ...           # and shrinks it

The report of a failing test has its seed, the command that repeats it, and a message-sequence chart.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from runtime.testing.shrinking import shrink
from runtime.testing.simulation import Simulation


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("interleavings", "deterministic simulations of processes")
    group.addoption(
        "--interleavings",
        type=_count,
        default=1,
        metavar="N",
        help="run each test with the fixture `simulation` under N seeds",
    )
    group.addoption(
        "--interleaving-seed", type=int, default=None, metavar="SEED", help="run them under this seed only"
    )
    group.addoption(
        "--shrink-interleavings",
        action="store_true",
        help="search for the shortest failing interleaving of a failing test",
    )


def _count(value: str) -> int:
    count = int(value)
    if count < 1:
        raise ValueError("--interleavings: expected 1 or more")
    return count


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "simulation" in metafunc.fixturenames:
        seed = metafunc.config.getoption("--interleaving-seed")
        count: Any = metafunc.config.getoption("--interleavings")
        seeds = range(count) if seed is None else [seed]
        metafunc.parametrize("simulation", seeds, indirect=True, ids=[f"seed {seed}" for seed in seeds])


@pytest.fixture
def simulation(request: pytest.FixtureRequest) -> Generator[Simulation]:
    """A Simulation with the seed of this test; closed after the test."""
    sim = Simulation(request.param)
    try:
        yield sim
    finally:
        sim.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    sim = arguments.get("simulation")
    if report.when == "call" and report.failed and isinstance(sim, Simulation):
        test = item.nodeid.partition("[")[0]
        again = f"seed {sim.seed}; again: pytest '{test}' --interleaving-seed {sim.seed}"
        report.sections.append(("interleaving", f"{again}\n{sim.chart()}"))
        if item.config.getoption("--shrink-interleavings"):
            report.sections.append(("shortest interleaving", _shrunk(item, arguments, sim.seed)))
    return report


def _shrunk(item: pytest.Item, arguments: dict[str, Any], seed: int) -> str:
    function: Any = getattr(item, "obj", None)
    others = {name: arguments[name] for name in getattr(item, "fixturenames", ()) if name in arguments}

    def scenario(sim: Simulation) -> None:
        wanted = function.__code__.co_varnames[: function.__code__.co_argcount]
        function(**{name: sim if name == "simulation" else others[name] for name in wanted if name != "self"})

    try:
        return str(shrink(scenario, seed))
    except ValueError as error:
        return f"{error} when it is repeated: it depends on more than the interleaving"
