"""One scenario, one fresh cluster: replays the steps and returns what happened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.core import engine as engines
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.nodes import erpc, global_names
from runtime.nodes.node import NodeConfig
from runtime.otp import erlang
from runtime.testing.cluster import Cluster, ClusterMember
from tests.otp.operations import Steps
from tests.otp.processes import Processes, Worker
from tests.otp.scenario import RunQueue
from tests.otp.terms import Json

from .names import NodeNames
from .operations import NodeOperations


@dataclass(frozen=True, slots=True)
class NodeScenario:
    """A scenario file: what to do, and what OTP did."""

    name: str
    content: Json
    steps: list[Json]
    trace: list[list[Json]]
    order: list[Json]
    alive: list[str]

    @classmethod
    def load(cls, path: Path) -> NodeScenario:
        """Reads a scenario file. Raises KeyError or ValueError if it is none."""
        content = json.loads(path.read_text())
        fields = ("steps", "trace", "order", "alive")
        return cls(content["name"], content, *(content[field] for field in fields))


class NodeProcesses(Processes):
    """As `Processes`; plain processes and children may be on other nodes."""

    operations: NodeOperations

    async def exported_plain(self, id: str, mode: str, spawner: Pid | None, trap: bool) -> None:
        """The body of a plain process that any node may spawn."""
        self.operations.names.add_new(id, erlang.self_())
        erlang.trap_exit(trap)
        await self.plain(mode, spawner)

    async def start_child(self, node: Json, id: str | None = None, overrides: Json = None) -> Any:
        if "node" not in node or "start" in node:
            return await super().start_child(node, id, overrides)
        if id is not None:
            node = {**node, "id": id, **(overrides or {})}
        result = await erpc.call(node["node"], "start", (node, False))
        if result[0] == "ok":
            erlang.link(result[1])
        return result

    async def start_node(self, node: Json, link: bool = True) -> Pid | None:
        if node.get("register") != "global":
            return await super().start_node(node, link)
        start = Worker.start_link if link else Worker.start
        return await start(self, node, name=("global", node["id"]), timeout=node.get("start_timeout"))


class World:
    """A scenario's nodes."""

    def __init__(self, scenario: Json, seed: int, make: Any = Cluster) -> None:
        self.names = NodeNames()
        self.operations = NodeOperations(self.names, self)
        self.processes = NodeProcesses(self.operations)
        config: dict[str, Any] = {
            "net_ticktime": 60,
            "prevent_overlapping_partitions": False,
            **scenario.get("config", {}),
        }
        self.cluster = make(
            seed,
            (),
            config=NodeConfig(announce=False, **config),
            choices=RunQueue(seed),
            on_start=self._prepare,
        )
        for name in scenario["nodes"]:
            self.cluster.start(name)
        self.cluster.run()
        pairs = scenario.get("connected")
        if pairs is None:
            pairs = [(x, y) for x in scenario["nodes"] for y in scenario["nodes"] if x < y]
        for one, other in pairs:
            self.cluster[one].node.connect(other)
        self.cluster.run()
        member = self.cluster[scenario["nodes"][0]]
        engines.set_default(member.engine)
        self.names.add("driver", member.spawn(self.processes.plain, "auto", trap_exit=True))
        self.cluster.run()

    def _prepare(self, member: ClusterMember) -> None:
        self.names.nodes[member.engine] = member.node
        member.engine.on_exit.append(self._down)
        for name, function in (
            ("plain", self.processes.exported_plain),
            ("start", self.operations.start_here),
            ("f", self.operations.f),
            ("start_child", self.processes.start_child),
        ):
            member.node.export(name, function)
        member.spawn(_kernel)

    def _down(self, pid: Pid, reason: object) -> None:
        if pid in self.names.labels:
            self.operations.events.append(["down", self.names.labels[pid], self.names.encode(reason)])

    def halt(self, name: str) -> None:
        """The node ends at once: as soon as the code that says so is off the stack."""
        self.cluster[name].engine.call_later(0, self.cluster.crash, name)

    # ---- steps

    def step(self, step: Json) -> list[Json]:
        """Performs one step: its events."""
        self.operations.events = events = []
        by = step.get("by", "driver")
        if by == "world":
            for op in step["do"]:
                self._world(op)
        else:
            actor, node = self.names.home_of(by)
            member = None if node is None else self.cluster.members.get(node.name)
            if actor is None or member is None or member.node is not node or actor.execution.mode == DEAD:
                events.append(["skip", by])
            else:
                actor.deliver(Steps(step["do"]))
        self.cluster.advance(step.get("settle_ms", 0))
        return events

    def _world(self, op: Json) -> None:
        cluster = self.cluster
        match op:
            case {"op": "node_stop", "node": node}:
                cluster.crash(node)
            case {"op": "node_stop_gracefully", "node": node}:
                leaving = cluster[node].node
                cluster.stop(node)
                # Nobody was there to see what its processes did last.
                events = self.operations.events
                events[:] = [event for event in events if self.names.home_of(event[1])[1] is not leaving]
            case {"op": "node_start", "node": node}:
                cluster.start(node)
            case {"op": "node_suspend", "node": node}:
                cluster.suspend(node)
            case {"op": "node_resume", "node": node}:
                cluster.suspend(node, True)
            case {"op": "partition", "between": [x, y]}:
                cluster.partition(x, y)
            case {"op": "heal", "between": [x, y]}:
                cluster.heal(x, y)
            case {"op": "connect", "between": [x, y]}:
                cluster[x].node.connect(y)
        cluster.run()

    def alive(self) -> list[str]:
        """Labels of those that live."""
        found: list[str] = []
        for label, pid in self.names.pids.items():
            cell = self.names.by_key.get(self.names.key(pid))
            if cell is None or cell.execution.mode == DEAD:
                continue
            node = self.names.nodes[cell.execution.engine]
            member = self.cluster.members.get(node.name)
            if member is not None and member.node is node and member.running:
                found.append(label)
        return sorted(found)


async def _kernel() -> None:
    """What Erlang's kernel application starts on each node."""
    erlang.trap_exit(True)
    await global_names.start_link()
    await erlang.receive(lambda _: False)


def replay(scenario: NodeScenario, seed: int, make: Any = Cluster) -> tuple[list[list[Json]], list[str]]:
    """Performs the steps under the seed's schedule: the trace (events per step), and who lives at the end."""
    world = World(scenario.content, seed, make)
    try:
        trace = [world.step(step) for step in scenario.steps]
        return trace, world.alive()
    finally:
        world.cluster.close()
