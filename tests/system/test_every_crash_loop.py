"""E8: each worker of both trees crashes again and again: the tree ends within 20 s and says why, or serves around it.

The trees are the real ones, their workers are stand-ins, time is virtual. `tests/system/test_crash_loops.py` does some of it with
a real server.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from actors.cluster import servers
from api.cli.exit_cause import ExitCause
from api.cli.serve import explain
from runtime.core.scheduling import TIMEOUT
from runtime.otp import erlang, tree_config
from runtime.otp.gen_server import GenServer, StartError
from runtime.otp.tree_config import Tree
from runtime.testing.simulation import play
from tests.support.server import ROOT

TREES = {
    "supervisor.toml": ROOT / "supervisor.toml",
    "servers.toml": Path(servers.__file__).with_name("servers.toml"),
}
LONGEST_MS = 20_000
# What keeps the server from being of use while it crashes: a tree that is not there, not one that waits.
ENDS = {
    "supervisor.toml": {"cluster", "pubsub", "sockets", "endpoint"},
    "servers.toml": {"servers", "upgrade"},
}
SERVING = {"supervisor.toml": "endpoint", "servers.toml": "servers"}


class StandIn(GenServer):
    """A worker that does nothing. `starts` counts those of all of a test."""

    starts: dict[str, int]
    name: str

    def init(self) -> None:
        self.starts[self.name] = self.starts.get(self.name, 0) + 1


class Crashing(StandIn):
    """Crashes `after` ms after each start; with None in its init, from its second start on."""

    after: int | None = None

    def init(self) -> None:
        super().init()
        if self.after is None and self.starts[self.name] > 1:
            raise ValueError("out of cheese")
        erlang.send_after(60 if self.after is None else self.after, erlang.self_(), "crash")

    def handle_info(self, message: Any) -> Any:
        raise ValueError("out of cheese")


class NeverStarts(StandIn):
    """Fails in its first init."""

    def init(self) -> None:
        raise ValueError("out of cheese")


@cache
def real(file: str) -> Tree:
    """One of the trees as it is."""
    return tree_config.load(TREES[file])


def workers() -> list[tuple[str, str]]:
    """All of them."""
    return [
        (file, name) for file in TREES for name, node in real(file).nodes.items() if node.kind == "worker"
    ]


def tree_with(file: str, crashing: str, kind: type[StandIn], starts: dict[str, int], **more: Any) -> Tree:
    """The tree of stand-ins, of which one is of this kind."""
    nodes = {}
    for name, node in real(file).nodes.items():
        if node.kind == "worker":
            table = MappingProxyType({key: value for key, value in node.table.items() if key != "args"})
            chosen, extra = (kind, more) if name == crashing else (StandIn, {})
            actor = type(chosen.__name__, (chosen,), {"starts": starts, "name": name, **extra})
            node = replace(node, table=table, actor=actor)
        nodes[name] = node
    return Tree(nodes)


async def outcome(tree: Tree) -> tuple[bool, str | None]:
    """Whether the tree still stands after three times the longest, and its last words if it ended within the longest."""
    erlang.trap_exit(True)
    with ExitCause() as exit_cause:
        root = await tree.start_link()
        assert root is not None
        reason = await erlang.await_down(root, LONGEST_MS)
        if reason is not TIMEOUT:
            return False, exit_cause.line
        await erlang.sleep(2 * LONGEST_MS)
        return erlang.is_process_alive(root), exit_cause.line


@pytest.mark.parametrize("after", [None, 0, 60, 2000])
@pytest.mark.parametrize(("file", "name"), workers())
def test_a_loop_ends_with_its_reason_or_is_served_around(file: str, name: str, after: int | None) -> None:
    starts: dict[str, int] = {}
    stands, last = play(outcome, tree_with(file, name, Crashing, starts, after=after))
    if name in ENDS[file]:
        assert not stands
        assert last is not None
        assert last.startswith(f"{name} kept crashing, last with ValueError: out of cheese")
        assert "bitnexus doctor" in last
    else:
        assert stands and last is None and starts[name] > 5
        assert starts[SERVING[file]] == 1, "nobody was served meanwhile"


@pytest.mark.parametrize(("file", "name"), workers())
def test_a_first_start_that_fails_says_which(file: str, name: str) -> None:
    async def main() -> str:
        erlang.trap_exit(True)
        with pytest.raises(StartError) as failed:
            await tree_with(file, name, NeverStarts, {}).start_link()
        return explain(failed.value.reason)

    assert play(main) == f"{name} did not start: ValueError: out of cheese"
