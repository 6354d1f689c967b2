"""runtime.testing.simulation keeps its word: one seed one trace, virtual time, probes, sent-logs, explored interleavings."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from runtime.core.exits import Exit
from runtime.otp import erlang
from runtime.otp.erlang import ExitMessage
from runtime.otp.gen_server import Call, Cast, GenServer, Reply, call
from runtime.testing import simulation as testing
from runtime.testing.simulation import Simulation, assert_reproducible, explore, trace_of


class Echo(GenServer):
    def init(self, probe: Any) -> None:
        self.probe = probe

    def handle_cast(self, request: Any) -> None:
        erlang.send(self.probe, ("got", request))

    async def handle_call(self, request: Any, from_: Any) -> Any:
        await erlang.sleep(request)
        return Reply("slept")


def test_inject_run_and_look() -> None:
    with Simulation(seed=5) as sim:
        probe = sim.probe()
        pid = sim.start(Echo, probe.pid, name="echo")
        sim.cast("echo", 1, 2, 3)
        assert probe.messages == []
        sim.run()
        assert probe.take() == [("got", n) for n in (1, 2, 3)]
        assert sim.sent(by=pid) == [("got", n) for n in (1, 2, 3)]
        assert [m.request for m in sim.sent(to=pid) if isinstance(m, Cast)] == [1, 2, 3]
        assert sim.call(pid, 1) == "slept"
        assert [m.request for m in sim.sent(to=pid) if isinstance(m, Call)] == [1]  # of an idle server too
        sim.exit(probe.pid, "x", source=pid)
        sim.run()
        assert probe.take() == [ExitMessage(pid, "x")]
        sim.exit(pid, "kill")
        sim.run()
        assert not erlang.is_process_alive(pid)
        assert "exit echo killed" in sim.trace


def test_an_hour_takes_no_time() -> None:
    began = time.perf_counter()
    with Simulation() as sim:
        probe = sim.probe()
        pid = sim.start(Echo, probe.pid)
        erlang.send_after(3_600_000, probe.pid, "hour")
        assert sim.call(pid, 3_000_000, timeout=None) == "slept"
        assert (sim.now, probe.messages) == (3_000_000, [])
        sim.advance(600_000)
        assert probe.messages == ["hour"]
        with pytest.raises(Exit) as late:
            sim.call(pid, 10_000)
        assert late.value.reason[0] == "timeout"
    assert time.perf_counter() - began < 60


async def three_writers() -> list[int]:
    me = erlang.self_()

    async def writer(n: int) -> None:
        await asyncio.sleep(0.001)
        erlang.send(me, n)
        await erlang.sleep(1)
        erlang.send(me, n * 10)

    for n in (1, 2, 3):
        erlang.spawn_link(writer, n)
    return [await erlang.receive(lambda m: isinstance(m, int)) for _ in range(6)]


def test_one_seed_is_one_trace_and_seeds_differ() -> None:
    for seed in range(5):
        assert_reproducible(three_writers, seed)
    assert trace_of(three_writers, 1) != trace_of(three_writers, 2)
    assert len({tuple(testing.play(three_writers, seed=seed)) for seed in range(30)}) > 3


def test_a_trace_has_no_addresses_and_numbers_references_anew() -> None:
    kept: list[object] = []  # so that no two runs have their object at one address

    def scenario(sim: Simulation) -> None:
        kept.append(object())
        sim.send(sim.probe().pid, kept[-1], erlang.make_ref())

    assert_reproducible(scenario)
    assert "<object object>" in trace_of(scenario, 0)
    assert "#Ref<0.1>" in trace_of(scenario, 0)


def test_a_trace_is_the_same_in_another_process() -> None:
    import subprocess
    import sys

    code = "from tests.runtime.test_simulation import *; print(trace_of(three_writers, 7), end='')"
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": hash_seed},
            check=True,
        )
        assert run.stdout == trace_of(three_writers, 7)


def test_explore_finds_the_interleaving_and_prints_its_seed(capsys: Any) -> None:
    async def racy() -> None:
        first = (await three_writers())[0]
        assert first != 3

    assert explore(three_writers, 20) > 10
    with pytest.raises(AssertionError) as failed:
        explore(racy, 100)
    [note] = [note for note in failed.value.__notes__ if "Simulation" in note]
    seed = int(note.split("seed=")[1].rstrip(")"))
    assert f"fails with seed {seed}" in capsys.readouterr().out
    with pytest.raises(AssertionError):
        testing.play(racy, seed=seed)


def test_what_is_not_reproducible_is_told() -> None:
    with pytest.raises(AssertionError, match="differ at line"):
        assert_reproducible(lambda sim: sim.send(sim.probe().pid, time.perf_counter_ns()))


def test_a_body_that_can_never_end_is_an_error() -> None:
    async def waits() -> None:
        await erlang.receive(lambda _m: False)

    with pytest.raises(TimeoutError, match="waits"):
        testing.play(waits)

    async def killed() -> None:
        erlang.exit(erlang.self_(), "kill")

    with pytest.raises(RuntimeError, match="signal"):
        testing.play(killed)
    with pytest.raises(RuntimeError, match="signal"):
        testing.play_real(killed)


def test_asyncio_timeouts_use_the_virtual_clock() -> None:
    async def body() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await call(await Echo.start(None), 5_000_000, None)
        return erlang.monotonic_time()

    assert testing.play(body) == pytest.approx(1_000_000)


def test_the_end_cancels_what_clean_up_waits_for_in_vain() -> None:
    released: list[str] = []

    async def waits_in_finally() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()
            finally:
                try:
                    await asyncio.sleep(3_600)
                finally:
                    released.append("all")

    with Simulation() as sim:
        sim.spawn(waits_in_finally)
        sim.run()
        assert released == []
    assert released == ["all"]
