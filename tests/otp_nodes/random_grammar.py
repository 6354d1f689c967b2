"""Random scenarios of all that the format of several nodes allows: as `tests.otp.random_grammar`, with nodes that come and go."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, ClassVar

from tests.otp.random_grammar import OPS_BY_TOPIC, SETTLE_MS, Grammar
from tests.otp.terms import Json

RESOLVERS = ("random_exit_name", "random_notify_name", "notify_all_name", "none")
NODE_TOPICS: dict[str, tuple[str, ...]] = {
    **{topic: ops for topic, ops in OPS_BY_TOPIC.items() if topic not in ("system", "machines")},
    "connections": ("nodes", "connect", "ping", "disconnect", "monitor_node", "monitor_nodes", "node_of"),
    "remote": ("rpc", "erpc", "rpc_cast", "erpc_cast", "rpc_multicall", "erpc_multicall", "erpc_send", "erpc_receive",
               "erpc_wait"),
    "requests": ("send_request", "receive_response", "wait_response", "multi_call", "abcast", "call", "flush"),
    "aliases": ("alias", "unalias", "send", "send_opt", "timer_send_after"),
    "spawns": ("spawn", "spawn_request", "links_of", "monitors_of", "exit"),
    "pg": ("pg_start", "pg_join", "pg_leave", "pg_members", "pg_local", "pg_groups", "pg_monitor", "pg_monitor_scope",
           "pg_demonitor", "pg_join", "pg_stop", "exit"),
    "global": ("global_register", "global_register", "global_re_register", "global_unregister", "global_whereis", "global_names",
               "global_send", "global_set_lock", "global_del_lock", "exit_self"),
}  # fmt: skip


class NodeGrammar(Grammar):
    """`p` and `u` are on the first node, `q` and `v` on the second; what is started later is anywhere."""

    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = NODE_TOPICS

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.timed = random.random() < 0.1
        self.nodes = list("abc"[: random.choice((2, 2, 2, 3))])
        self.up = set(self.nodes)
        self.cuts: list[list[str]] = []
        self.requests: list[str] = []
        self.aliases: list[str] = []

    def content(self) -> Json:
        """The scenario without name and trace."""
        content: Json = {"nodes": self.nodes}
        config = self.random.choice(({}, {}, {}, {}, {}, {}, {"connect_all": False}, {"auto_connect": False}))
        if config:
            content["config"] = config
        return {**content, "steps": self.scenario()}

    def scenario(self) -> list[Json]:
        random = self.random
        steps: list[Json] = [{"by": "driver", "do": [self.spawn_op(id) for id in ("p", "q", "m")]}]
        for id in self.workers:
            steps.append(self.settled({"by": self.actor(), "do": [self.start_worker_op(id)]}))
        for id in self.sups:
            steps.append(self.settled({"by": random.choice(("driver", "p", "q")), "do": [self.tree_op(id)]}))
        for _ in range(random.randint(4, 10)):
            steps += self.world() if self.chance(0.2) else [self.step()]
        look = ["links_of", "monitors_of"]
        for id in ("driver", "p", "q"):
            steps.append(
                {
                    "by": id,
                    "do": [*({"op": op, "to": "self"} for op in look), {"op": "flush"}, {"op": "nodes"}],
                }
            )
        if self.timed:
            steps[-1]["settle_ms"] = SETTLE_MS
        return steps

    # ---- the world

    def world(self) -> list[Json]:
        """A node or a connection comes or goes."""
        random = self.random
        one, other = random.sample(self.nodes, 2)
        node = random.choice(self.nodes[1:])
        kind = random.choice(("stop", "stop", "cut", "cut", "heal", "connect"))
        if kind == "stop" and node in self.up:
            self.up.discard(node)
            return [_world(random.choice(("node_stop", "node_stop_gracefully")), node=node)]
        if kind == "stop":
            self.up.add(node)
            return [_world("node_start", node=node)]
        if kind == "cut":
            self.cuts.append([one, other])
            return [_world("partition", between=[one, other])]
        if kind == "heal" and self.cuts:
            between = self.cuts.pop()
            return [_world("heal", between=between)]
        return [_world("connect", between=[one, other])] if {one, other} <= self.up else []

    def node(self) -> str:
        return self.random.choice((*self.nodes, *self.nodes, "zz"))

    def home(self, id: str) -> str:
        return {"p": "a", "u": "a", "s": "a", "q": "b", "v": "b", "t": "b"}.get(id) or self.random.choice(
            self.nodes
        )

    # ---- as on one node, anywhere

    def spawn_op(self, id: str) -> Json:
        op = super().spawn_op(id)
        return op if self.chance(0.1) and id not in "pqm" else op | {"node": self.home(id)}

    def worker(self, id: str) -> Json:
        worker = super().worker(id)
        if self.chance(0.15):
            worker["register"] = "global"
        return worker

    def start_worker_op(self, id: str) -> Json:
        op = super().start_worker_op(id)
        return op | {"node": self.home(id), "link": False} if self.chance(0.6) else op

    def tree_op(self, id: str) -> Json:
        op = super().tree_op(id)
        return op | {"node": self.home(id)} if self.chance(0.05) else op

    def child(self) -> Json:
        child = super().child()
        if self.chance(0.3):
            child |= {
                "node": self.random.choice(self.nodes),
                "shutdown": self.random.choice(("brutal_kill", 200)),
            }
        return child

    def dest(self) -> Json:
        choice = self.random.random()
        if choice < 0.25:
            return {"name": self.random.choice(self.names), "node": self.node()}
        return super().dest()

    def server(self) -> Json:
        id = self.random.choice((*self.workers, *self.workers, *self.sups, *self.children))
        choice = self.random.random()
        if choice < 0.25:
            return {"name": id, "node": self.node()}
        return {"global": id} if choice < 0.35 else super().server()

    # ---- ops of nodes

    def f(self, depth: int = 1) -> Json:
        """A function for rpc and erpc."""
        random = self.random
        functions: list[Json] = [
            ["return", self.term()], ["error", self.reason()], ["exit", self.reason()], ["throw", self.term()], ["node"],
            ["kill_self"], ["undef"], ["whereis", random.choice(self.names)], ["alive", random.choice("pqm")],
            ["call", {"name": random.choice(self.workers)}, ["reply", 1]], ["send", random.choice("pqm"), "hello"],
            ["return", {"t": ["badrpc", "x"]}],
        ]  # fmt: skip
        if depth:
            functions.append(["trap", self.f(0)])
        return random.choice(functions)

    def _remote(self, name: str, depth: int) -> Json:
        op: Json = {"op": name, "f": self.f()}
        if "multicall" in name:
            op["nodes"] = [self.node() for _ in range(self.random.randint(0, 3))]
        else:
            op["node"] = self.node()
        if name == "erpc_send":
            return self._request_named(op)
        return op if "cast" in name or self.chance(0.5) else op | {"timeout": 5000}

    def _request_named(self, op: Json) -> Json:
        op["as"] = self.new("e" if op["op"] == "erpc_send" else "g")
        self.requests.append(op["as"])
        return op

    def _send_request(self, name: str, depth: int) -> Json:
        return self._request_named({"op": name, "to": self.server(), "act": self.act(depth)})

    def _response(self, name: str, depth: int) -> Json:
        letter = "e" if name.startswith("erpc") else "g"
        known = [request for request in self.requests if request[0] == letter]
        if not known:
            return self._remote("erpc_send", 0) if letter == "e" else self._send_request("send_request", 0)
        return {"op": name, "as": self.random.choice(known), "timeout": self.random.choice((0, 5000))}

    def _everywhere(self, name: str, depth: int) -> Json:
        op: Json = {"op": name, "name": self.random.choice(self.workers), "act": self.act(0)}
        if name == "multi_call" and self.chance(0.5):
            op["timeout"] = 5000
        return (
            op | {"nodes": [self.node() for _ in range(self.random.randint(0, 3))]}
            if self.chance(0.6)
            else op
        )

    def _node(self, name: str, depth: int) -> Json:
        op: Json = {"op": name, "node": self.node()}
        return op | {"value": self.chance(0.7)} if name == "monitor_node" else op

    def _monitor_nodes(self, name: str, depth: int) -> Json:
        op: Json = {"op": name, "value": self.chance(0.7)}
        return op | {"opts": self.random.choice(([], ["nodedown_reason"]))} if self.chance(0.6) else op

    def _spawn_request(self, name: str, depth: int) -> Json:
        opts = [option for option in ("link", "monitor") if self.chance(0.5)]
        return self.named(
            {"op": name, "node": self.node(), "id": self.new("y"), "opts": opts, "trap": self.chance(0.5)}
        )

    def _alias(self, name: str, depth: int) -> Json:
        if name == "unalias":
            return {"op": name, "ref": self.random.choice([*self.aliases, *self.refs] or ["none"])}
        self.aliases.append(self.new("al"))
        return {"op": name, "as": self.aliases[-1], "opts": self.random.choice(([], ["reply"]))}

    def _send(self, name: str, depth: int) -> Json:
        to = {"alias": self.random.choice(self.aliases)} if self.aliases and self.chance(0.4) else self.dest()
        if name == "timer_send_after":
            return {"op": name, "ms": 0, "to": to, "msg": self.term()}
        op: Json = {"op": name, "to": to, "msg": self.term()}
        return (
            op | {"opts": self.random.choice(([], ["noconnect"], ["nosuspend"]))}
            if name == "send_opt"
            else op
        )

    def _pids(self) -> Json:
        one: Callable[[], str] = lambda: self.random.choice(("self", "self", self.who()))  # noqa: E731
        return one() if self.chance(0.6) else [one() for _ in range(self.random.randint(0, 3))]

    def _pg(self, name: str, depth: int) -> Json:
        op: Json = {"op": name} if self.chance(0.8) else {"op": name, "scope": "other"}
        if name in ("pg_join", "pg_leave"):
            op["to"] = self._pids()
        if name == "pg_demonitor":
            return op | {"ref": self.random.choice(self.refs or ["none"])}
        if name in ("pg_start", "pg_stop", "pg_groups"):
            return op
        if name.startswith("pg_monitor"):
            self.named(op)
        return op if name == "pg_monitor_scope" else op | {"group": self.random.choice("jk")}

    def _global(self, name: str, depth: int) -> Json:
        if name == "global_names":
            return {"op": name}
        if name.endswith("lock"):
            op: Json = {"op": name, "lock": self.random.choice("xy")}
            return op | {"nodes": self.random.sample(self.nodes, 1)} if self.chance(0.3) else op
        op = {"op": name, "name": self.random.choice(("n", *self.workers[:1]))}
        if name == "global_send":
            op["msg"] = self.term()
        if name in ("global_register", "global_re_register"):
            op["to"] = self.who()
        return op | {"resolve": self.random.choice(RESOLVERS)} if name == "global_register" else op

    OPS: ClassVar[dict[str, Callable[[Any, str, int], Json]]] = {
        **Grammar.OPS,
        **dict.fromkeys(NODE_TOPICS["remote"][:7], _remote),
        **dict.fromkeys(("erpc_receive", "erpc_wait", "receive_response", "wait_response"), _response),
        **dict.fromkeys(("multi_call", "abcast"), _everywhere),
        **dict.fromkeys(("connect", "ping", "disconnect", "monitor_node"), _node),
        **dict.fromkeys(("alias", "unalias"), _alias),
        **dict.fromkeys(("send", "send_opt", "timer_send_after"), _send),
        **dict.fromkeys(NODE_TOPICS["pg"][:-1], _pg),
        **dict.fromkeys(NODE_TOPICS["global"][:-1], _global),
        "send_request": _send_request, "monitor_nodes": _monitor_nodes, "spawn_request": _spawn_request,
        "nodes": lambda self, name, depth: {"op": name},
        "node_of": lambda self, name, depth: {"op": name, "to": self.who()},
    }  # fmt: skip


def _world(name: str, **fields: Json) -> Json:
    return {"by": "world", "do": [{"op": name, **fields}]}
