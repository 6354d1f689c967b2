"""The restart backoff: delays, what they leave alone, and its spelling in supervisor.toml."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from runtime.otp import dynamic_supervisor, erlang, supervisor, tree_config
from runtime.otp.backoff import Backoff, Delays
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.gen_server import GenServer, Stop
from runtime.otp.supervisor import ChildSpec, Supervisor, count_children
from runtime.otp.tree_config import TreeConfigError

BACKOFF = Backoff(min=20, max=80, reset_after=10_000)
starts: list[float] = []


class Crasher(GenServer):
    """Crashes `after` milliseconds after its start, the first `times` times; a start of it may fail as well."""

    def init(self, times: int, after: int | None = 0) -> Any:
        starts.append(self.now())
        if len(starts) > times:
            return None
        if after is None and len(starts) > 1:
            return Stop("no")
        erlang.send_after(after or 0, erlang.self_(), "crash")
        return None

    def handle_info(self, message: Any) -> Any:
        return Stop("bad")


@pytest.fixture(autouse=True)
def _empty() -> None:
    starts.clear()


def crasher(*args: Any, backoff: Backoff | None = BACKOFF) -> ChildSpec:
    return ChildSpec("crasher", (Crasher.start_link, args), backoff=backoff)


@pytest.mark.parametrize("after", [0, None], ids=["crash", "failed_start"])
@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
def test_delays_grow_and_use_up_no_restarts(play: Any, strategy: str, after: int | None) -> None:
    async def body() -> None:
        sup = await Supervisor.start_link([crasher(5, after)], strategy=strategy, intensity=0)
        while len(starts) < 6:
            await erlang.sleep(5)
        gaps = [round((later - earlier) * 1000) for earlier, later in pairwise(starts)]
        assert all(gap >= least - 1 for gap, least in zip(gaps, [20, 40, 80, 80, 80], strict=True)), gaps
        assert erlang.is_process_alive(sup)

    play(body)


def test_a_waiting_child_is_listed_as_restarting(play: Any) -> None:
    async def body() -> None:
        sup = await Supervisor.start_link([crasher(1, backoff=Backoff(5_000, 5_000))], intensity=0)
        while (await supervisor.which_children(sup))[0][1] != "restarting":
            await erlang.sleep(1)
        assert (await count_children(sup))["active"] == 0
        assert await supervisor.restart_child(sup, "crasher") == ("error", "restarting")
        assert await supervisor.terminate_child(sup, "crasher") == "ok"
        assert (await supervisor.restart_child(sup, "crasher"))[0] == "ok"

    play(body)


def test_without_backoff_intensity_counts_as_in_otp(play: Any) -> None:
    async def body() -> None:
        erlang.trap_exit(True)
        sup = await Supervisor.start_link([crasher(99, backoff=None)], intensity=3)
        assert await erlang.await_down(sup, 5_000) == "shutdown"
        assert len(starts) == 4

    play(body)


def test_a_long_life_begins_anew() -> None:
    delays = Delays(started=0.0)
    assert [delays.next(BACKOFF, 1.0) for _ in range(4)] == [20, 40, 80, 80]
    assert delays.next(BACKOFF, 10.0) == 20
    delays.failures = 10**6
    assert delays.next(BACKOFF, 1.0) == 80


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{ mni = 5 }",
            "backoff.mni: unknown key (expected one of min, max, reset_after; did you mean 'min'?)",
        ),
        ("{ min = 500, max = 5 }", "backoff: min is more than max"),
        ("{ min = -1 }", "whole numbers from 0"),
        ("{ min = true }", "whole numbers from 0"),
        ("5", "expected a table of min, max, reset_after, got 5"),
    ],
)
def test_mistakes_in_the_file(text: str, message: str, tmp_path: Any) -> None:
    path = tmp_path / "supervisor.toml"
    path.write_text(f'[supervisor.root]\nchildren = ["a"]\nbackoff = {text}\n[dynamic_supervisor.a]\n')
    with pytest.raises(TreeConfigError, match=r".") as error:
        tree_config.load(path)
    assert message in str(error.value)


def test_the_file_gives_the_spec_its_backoff(tmp_path: Any) -> None:
    path = tmp_path / "supervisor.toml"
    path.write_text(
        '[supervisor.root]\nchildren = ["a"]\n[dynamic_supervisor.a]\nbackoff = { min = 7, max = 70 }\n'
    )
    assert tree_config.load(path).spec("a").backoff == Backoff(7, 70, 10_000)


def test_a_dynamic_supervisor_waits_too(play: Any) -> None:
    async def body() -> None:
        sup = await DynamicSupervisor.start_link(intensity=0)
        pid = await dynamic_supervisor.start_child(sup, crasher(3))
        assert pid is not None
        while len(starts) < 4:
            await erlang.sleep(5)
        gaps = [round((later - earlier) * 1000) for earlier, later in pairwise(starts)]
        assert all(gap >= least - 1 for gap, least in zip(gaps, [20, 40, 80], strict=True)), gaps
        assert (await dynamic_supervisor.count_children(sup))["active"] == 1

    play(body)


def test_a_child_that_waits_can_be_terminated(play: Any) -> None:
    async def body() -> None:
        sup = await DynamicSupervisor.start_link(intensity=0)
        hour = Backoff(min=3_600_000, max=3_600_000)
        pid = await dynamic_supervisor.start_child(sup, crasher(3, backoff=hour))
        assert pid is not None
        await erlang.await_down(pid)
        assert (await dynamic_supervisor.which_children(sup))[0][1] == "restarting"
        assert await dynamic_supervisor.terminate_child(sup, pid) == "ok"
        assert await dynamic_supervisor.which_children(sup) == []
        assert len(starts) == 1

    play(body)
