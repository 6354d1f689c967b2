"""Random scenarios of all that the format allows: every op with every field, every description of a process, in any order.

Each scenario draws a few of the ops, actions, reasons and fields and combines just these, so that what seldom meets does (swarm
testing). `pairs` keeps those that bring together what no other scenario has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, ClassVar

from .machine_scenarios import Machines
from .reasons import REASONS, worker_init
from .terms import Json

SETTLE_MS = 700
PLAIN = ("p", "q", "m")  # m is in manual mode
WORKERS = ("u", "v", "w")
SUPS = ("s", "t")
NAMES = ("n", "u", "v", "s")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")
FLAGS: dict[str, Sequence[Json]] = {
    "intensity": (0, 1, 2, 5), "period": (1, 60), "auto_shutdown": ("never", "any_significant", "all_significant"),
    "restart": ("permanent", "transient", "temporary"), "shutdown": ("infinity", "brutal_kill", 0, 300),
    "significant": (True, False), "register": (False,), "init": ("ignore", "bad", ["error", "no"], ["exit", "no"]),
}  # fmt: skip
OPS_BY_TOPIC: dict[str, tuple[str, ...]] = {
    "links": ("link", "unlink", "links_of", "exit", "trap_exit", "exit_self", "return", "spawn"),
    "monitors": ("monitor", "demonitor", "monitors_of", "exit", "exit_self", "spawn"),
    "names": ("register", "unregister", "whereis", "send", "monitor", "start_worker"),
    "mail": ("send", "receive", "flush", "mailbox_of", "mode", "info", "exit"),
    "timers": ("send_after", "start_timer", "cancel_timer", "read_timer", "sleep", "receive"),
    "calls": ("call", "call", "call", "cast", "info", "gen_stop"),
    "starts": ("start_worker", "start_tree", "spawn", "gen_stop"),
    "orders": ("start_child", "terminate_child", "restart_child", "delete_child"),
    "questions": ("which_children", "count_children", "get_childspec", "is_alive", "links_of"),
    "system": ("suspend", "resume", "sys_status", "statistics", "sys_terminate", "call"),
    "machines": ("start_machine", "event", "event", "event", "event", "event", "suspend", "resume"),
}
STARTS = frozenset(
    ("start_tree", "start_machine", "event", "start_child", "start_worker", "spawn", "return", "mode")
)


class Grammar:
    """Plain processes, workers and trees, and a few topics of what is done to them."""

    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = OPS_BY_TOPIC

    def __init__(self, random: Random) -> None:
        self.random = random
        self.timed = random.random() < 0.3
        self.reasons = random.sample(REASONS, 3)
        self.topics = random.sample(sorted(self.TOPICS), 3)
        self.names = list(NAMES[: random.randint(1, len(NAMES))])
        self.workers = list(WORKERS[: random.randint(1, 3)])
        self.sups = list(SUPS[: random.randint(0, 2)])
        self.machines: list[str] = []
        self.events = Machines(random)
        self.children: list[str] = []
        self.refs: list[str] = []
        self.count = 0

    def scenario(self) -> list[Json]:
        """Who is there, what is done, and who is left."""
        random = self.random
        steps: list[Json] = [{"do": [self.spawn_op(id) for id in PLAIN]}]
        for id in self.workers:
            steps.append(self.settled({"by": self.actor(), "do": [self.start_worker_op(id)]}))
        for id in self.sups:
            steps.append(
                self.settled({"by": random.choice(("driver", "driver", "p")), "do": [self.tree_op(id)]})
            )
        for _ in range(random.randint(4, 10)):
            steps.append(self.step())
        looks = [{"op": "links_of", "to": id} for id in (*PLAIN, *self.workers, *self.sups)]
        looks += [{"op": "which_children", "sup": id} for id in self.sups]
        steps.append({"do": looks, "settle_ms": SETTLE_MS if self.timed else 0})
        return steps

    def step(self) -> Json:
        ops: list[Json] = []
        for _ in range(self.random.choice((1, 1, 2, 3))):
            ops.append(self.op(2))
            if ops[-1]["op"] in ("exit_self", "return", "mode"):
                break  # nothing may follow it in a step
        return self.settled({"by": self.actor(), "do": ops})

    def settled(self, step: Json) -> Json:
        if self.timed and self.chance(0.6):
            step["settle_ms"] = SETTLE_MS
        return step

    # ---- choices

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def new(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def reason(self) -> Json:
        return self.random.choice(self.reasons)

    def actor(self) -> str:
        return self.random.choice(("driver", "driver", *PLAIN, *self.workers, *self.children[:2]))

    def who(self) -> str:
        """Anybody's id."""
        return self.random.choice(
            ("self", "driver", *PLAIN, *self.workers, *self.sups, *self.children, *self.machines)
        )

    def server(self) -> Json:
        """A server by id or by name."""
        id = self.random.choice((*self.workers, *self.workers, *self.sups, *self.children))
        return {"name": id} if self.chance(0.25) else id

    def behaviour(self) -> Json:
        """A server or a state machine."""
        return self.random.choice(self.machines) if self.machines and self.chance(0.5) else self.server()

    def dest(self) -> Json:
        return {"name": self.random.choice(self.names)} if self.chance(0.2) else self.who()

    def limit(self) -> Json:
        return self.random.choice((0, 100, 300, "infinity") if self.timed else (0, "infinity", "infinity"))

    def term(self) -> Json:
        """A message or reply: some look like what the runtime sends."""
        pid = {"pid": self.random.choice((*PLAIN, "driver", *self.workers))}
        ref = {"ref": self.random.choice(self.refs)} if self.refs else "none"
        return self.random.choice((
            "hello", 7, [], {"t": []}, {"t": ["tag", pid]}, pid, ref, ["a", ["b"]], {"m": [["k", pid]]}, "timeout",
            {"t": ["EXIT", pid, self.reason()]}, {"t": ["DOWN", ref, "process", pid, self.reason()]}, {"t": ["timeout", ref, 1]},
            {"t": ["$gen_cast", 1]},
        ))  # fmt: skip

    def named(self, op: Json, share: float = 1.0) -> Json:
        """The op with `as`."""
        if self.chance(share):
            op["as"] = self.new("r")
            self.refs.append(op["as"])
        return op

    # ---- processes

    def spawn_op(self, id: str) -> Json:
        op: Json = {"op": "spawn", "id": id, "trap": self.chance(0.5)}
        if id == "m":
            op["mode"] = "manual"
        if self.chance(0.4):
            op["link"] = True
        if self.chance(0.3):
            op["monitor"] = True
            self.named(op)
        return op

    def worker(self, id: str) -> Json:
        random = self.random
        worker: Json = {"id": id, "trap_exit": self.chance(0.5)}
        if self.chance(0.2):
            worker["register"] = False
        if self.chance(0.3):
            worker["init"] = random.choice(
                (worker_init(random), ["continue", self.act(1)], "hibernate", ["timeout", 0])
            )
            if self.chance(0.5):
                worker["init"] = {"seq": ["ok", worker["init"], random.choice(("ok", "ignore"))]}
        if self.chance(0.2):
            worker["terminate"] = random.choice(
                (["error", "oops"], ["exit", self.reason()], ["throw", "oops"])
            )
        if self.chance(0.2):
            worker["init_do"] = [self.op(0)]
        if self.chance(0.2):
            worker["terminate_do"] = [self.op(0)]
        if self.timed:
            for field, values in (
                ("init_delay_ms", (100,)),
                ("terminate_delay_ms", (100, 450)),
                ("start_timeout", (50, 300)),
            ):
                if self.chance(0.15):
                    worker[field] = random.choice(values)
        return worker

    def start_worker_op(self, id: str) -> Json:
        return {"op": "start_worker", "worker": self.worker(id), "link": self.chance(0.6)}

    def life(self) -> dict[str, Json]:
        """Fields of a child spec."""
        fields = [field for field in ("restart", "shutdown", "significant") if self.chance(0.4)]
        return {field: self.random.choice(FLAGS[field]) for field in fields}

    def child(self) -> Json:
        id = self.new("c")
        self.children.append(id)
        child = {**self.worker(id), **self.life()}
        if self.chance(0.1):
            child["start"] = self.random.choice((
                ["return", "ignore"], ["return", {"t": ["error", self.reason()]}], ["return", {"t": ["ok", {"pid": "p"}]}],
                ["return", {"t": ["ok", {"pid": "q"}, "info"]}], ["return", self.term()], ["exit", self.reason()],
            ))  # fmt: skip
        if child.get("shutdown") == 0 and child["trap_exit"]:
            child["shutdown"] = "infinity"  # a timer of 0 ms and the child's terminate race
        return child

    def tree(self, id: str, depth: int = 1) -> Json:
        random = self.random
        tree: Json = {"kind": "sup", "id": id, "strategy": random.choice(STRATEGIES)}
        fields = [field for field in ("intensity", "period", "auto_shutdown", "register") if self.chance(0.4)]
        tree |= {field: random.choice(FLAGS[field]) for field in fields}
        if self.chance(0.05):
            tree["init"] = random.choice(FLAGS["init"])
        count = 1 if tree["strategy"] == "simple_one_for_one" else random.randint(0, 3)
        tree["children"] = [
            {**self.tree(self.new("x"), 0), **self.life()} if depth and self.chance(0.2) else self.child()
            for _ in range(count)
        ]
        if tree.get("auto_shutdown", "never") == "never" and self.chance(0.9):
            for child in tree["children"]:
                child.pop("significant", None)
        return tree

    def tree_op(self, id: str) -> Json:
        return {"op": "start_tree", "tree": self.tree(id)}

    # ---- what is done

    def act(self, depth: int) -> Json:
        """What a worker does when it is asked."""
        random = self.random
        reason, key = self.reason(), random.choice("kl")
        acts: list[Json] = [
            ["noop"], ["reply", self.term()], ["defer", key], ["answer", key, self.term()], ["stop", reason],
            ["stop_reply", reason, 1], ["error", reason], ["exit", reason], ["throw", self.term()], ["bad"], ["timeout", 0],
            ["hibernate"],
        ]  # fmt: skip
        if self.timed:
            acts.append(["timeout", 200])
        if depth > 0:
            inner = self.act(depth - 1)
            acts += [["do", [self.op(depth - 1) for _ in range(random.choice((1, 2)))]]] * 4
            acts += [["continue", inner]] * 2 + [["reply_then", 2, inner]] * 2
            acts += [["sleep", 100, inner]] if self.timed else []
        return random.choice(acts)

    def op(self, depth: int) -> Json:
        """One op of the scenario's topics; with depth 0 none that carries ops in turn."""
        name = self.random.choice([name for topic in self.topics for name in self.TOPICS[topic]])
        if depth == 0 and name in (
            "start_tree",
            "start_machine",
            "event",
            "start_child",
            "start_worker",
            "spawn",
            "return",
            "mode",
        ):
            name = "links_of"
        return self.OPS[name](self, name, depth)

    def _to(self, name: str, depth: int) -> Json:
        return {"op": name, "to": self.who()}

    def _watch(self, name: str, depth: int) -> Json:
        return self.named({"op": name, "to": self.dest()}, 0.8)

    def _ref(self, name: str, depth: int) -> Json:
        op: Json = {"op": name, "ref": self.random.choice(self.refs or ["none"])}
        if name == "demonitor" and self.chance(0.6):
            op["opts"] = self.random.choice((["flush"], ["info"], ["flush", "info"]))
        return op

    def _exit(self, name: str, depth: int) -> Json:
        return {"op": name, "to": self.who(), "reason": self.reason()}

    def _exit_self(self, name: str, depth: int) -> Json:
        return {"op": name, "reason": self.reason(), "class": self.random.choice(("exit", "error", "throw"))}

    def _start(self, name: str, depth: int) -> Json:
        """A process of a new id, or of one that is there or was."""
        id = self.new("z") if self.chance(0.5) else self.random.choice((*self.workers, *self.sups))
        if name == "start_tree":
            return self.tree_op(id)
        return (
            self.start_worker_op(id)
            if name == "start_worker"
            else self.spawn_op(self.random.choice((self.new("y"), "p", "q")))
        )

    def _name(self, name: str, depth: int) -> Json:
        op: Json = {"op": name, "name": self.random.choice(self.names)}
        return op | {"to": self.who()} if name == "register" else op

    def _send(self, name: str, depth: int) -> Json:
        return {"op": name, "to": self.dest(), "msg": self.term()}

    def _timer(self, name: str, depth: int) -> Json:
        ms = self.random.choice((0, 150)) if self.timed else self.random.choice((0, 60000))
        return self.named({"op": name, "ms": ms, "to": self.dest(), "msg": self.term()})

    def _receive(self, name: str, depth: int) -> Json:
        op: Json = {"op": name, "after": self.limit()}
        return op | self.random.choice(
            ({}, {"tag": "tag"}, {"tag": "EXIT"}, {"tag": "DOWN"}, {"match": self.term()})
        )

    def _request(self, name: str, depth: int) -> Json:
        op: Json = {
            "op": name,
            "to": self.server() if self.chance(0.9) else self.who(),
            "act": self.act(depth),
        }
        return op | {"timeout": self.limit()} if name == "call" else op

    def _stop(self, name: str, depth: int) -> Json:
        return {"op": name, "to": self.behaviour(), "reason": self.reason(), "timeout": self.limit()}

    def _system(self, name: str, depth: int) -> Json:
        op: Json = {"op": name, "to": self.behaviour()}
        if name == "sys_terminate":
            op["reason"] = self.reason()
        if name == "statistics":
            op["flag"] = self.random.choice(("true", "get", "false"))
        return op

    def _start_machine(self, name: str, depth: int) -> Json:
        self.machines.append(self.new("k"))
        return {"op": name, "machine": self._near(self.events.machine(self.machines[-1]))}

    def _event(self, name: str, depth: int) -> Json:
        """An event of a state machine, which says what its handlings do."""
        if not self.machines:
            return self._start_machine("start_machine", depth)
        kind = self.random.choice(("call", "cast", "cast", "info"))
        op: Json = {
            "op": kind,
            "to": self.random.choice(self.machines),
            "act": self._near(self.events.content(0, kind == "call")),
        }
        return op | {"timeout": self.limit()} if kind == "call" else op

    def _near(self, value: Json) -> Json:
        """With timeouts that fire at once or not at all, unless the scenario has time."""
        match value:
            case ["timeout" | "state_timeout" as kind, int() as ms, content] if ms and not self.timed:
                return [kind, 60000, self._near(content)]
            case ["named", name, int() as ms, content] if ms and not self.timed:
                return ["named", name, 60000, self._near(content)]
            case list():
                return [self._near(item) for item in value]
            case dict():
                return {key: self._near(item) for key, item in value.items()}
        return value

    def _ask(self, name: str, depth: int) -> Json:
        op: Json = {"op": name, "sup": self.random.choice(self.sups or ["nobody"])}
        return (
            op | {"child": self.random.choice(self.children or ["none"])} if name == "get_childspec" else op
        )

    def _order(self, name: str, depth: int) -> Json:
        if not self.sups:
            return self._request("call", depth)
        random = self.random
        op: Json = {"op": name, "sup": random.choice(self.sups)}
        if self.chance(0.15):
            op["sup"] = {"name": op["sup"]}
        if name != "start_child":
            child = random.choice(self.children or ["none"])
            return op | {"child": {"pid": child} if self.chance(0.3) else child}
        if self.chance(0.5):
            id = self.new("c")
            self.children.append(id)
            more = {"init": worker_init(random)} if self.chance(0.3) else {"trap_exit": True}
            return op | {"args": [id, more] if self.chance(0.4) else [id]}
        child = self.child() if self.chance(0.8) else {"id": random.choice(self.children or ["none"])}
        return op | {"child": child}

    OPS: ClassVar[dict[str, Callable[[Any, str, int], Json]]] = {
        **dict.fromkeys(("link", "unlink", "links_of", "monitors_of", "mailbox_of", "is_alive"), _to),
        **dict.fromkeys(("demonitor", "cancel_timer", "read_timer"), _ref),
        **dict.fromkeys(("start_worker", "start_tree", "spawn"), _start),
        **dict.fromkeys(("register", "unregister", "whereis"), _name),
        **dict.fromkeys(("send_after", "start_timer"), _timer),
        **dict.fromkeys(("call", "cast", "info"), _request),
        **dict.fromkeys(("suspend", "resume", "sys_status", "statistics", "sys_terminate"), _system),
        "start_machine": _start_machine, "event": _event,
        **dict.fromkeys(("which_children", "count_children", "get_childspec"), _ask),
        **dict.fromkeys(("start_child", "terminate_child", "restart_child", "delete_child"), _order),
        "monitor": _watch, "exit": _exit, "exit_self": _exit_self, "send": _send, "receive": _receive, "gen_stop": _stop,
        "return": lambda self, name, depth: {"op": name},
        "trap_exit": lambda self, name, depth: {"op": name, "value": self.chance(0.5)},
        "sleep": lambda self, name, depth: {"op": name, "ms": 100 if self.timed else 0},
        "flush": lambda self, name, depth: {"op": name},
        "mode": lambda self, name, depth: {"op": name, "mode": self.random.choice(("auto", "manual"))},
    }  # fmt: skip
