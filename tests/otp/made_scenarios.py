"""Random scenarios from nothing, in the format of the recorded ones: trees of supervisors, plain processes, servers.

They combine what the recorded ones have one at a time: strategies with significant children and every kind of shutdown,
intensities at their border, exits in every way, names and timers that change hands. Times are far apart for a real clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from .terms import Json

REASONS: list[Json] = [
    "normal", "shutdown", {"t": ["shutdown", "x"]}, "kill", "killed", "noproc", "boom", "noconnection",
    {"t": ["shutdown", "x", "y"]}, {"t": ["normal", "x"]}, {"t": []}, 7, ["shutdown"],
]  # fmt: skip
SHUTDOWNS: list[Json] = ["brutal_kill", "infinity", 0, 300, 5000]
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
SETTLE_MS = 900


class Trees:
    """A tree of supervisors and what befalls it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.sups: list[str] = []
        self.workers: list[str] = []
        self.simple: list[str] = []
        self.extra = 0
        self.named = random.random() < 0.5
        self.slow = False

    def scenario(self) -> list[Json]:
        """Start it, then a few accidents and questions, then its end."""
        random = self.random
        tree = self.sup("root", 2)
        del tree["restart"], tree["significant"], tree["shutdown"]
        steps: list[Json] = [{"do": [{"op": "start_tree", "tree": tree}], "settle_ms": SETTLE_MS}]
        for _ in range(random.randint(3, 9)):
            steps.append(self.step())
            if random.random() < 0.5:
                steps.append({"do": [self.question()]})
        steps.append({"do": [{"op": "which_children", "sup": sup} for sup in self.sups]})
        steps.append({"do": [self.ending()], "settle_ms": SETTLE_MS})
        return steps

    def sup(self, id: str, depth: int) -> Json:
        random = self.random
        self.sups.append(id)
        sup: Json = {"kind": "sup", "id": id, "register": self.named, **self.life(True)}
        if depth < 2 and random.random() < 0.2:
            sup["strategy"] = "simple_one_for_one"
            self.simple.append(id)
            sup["children"] = [self.worker(f"{id}t", add=False)]
        else:
            if random.random() < 0.9:
                sup["strategy"] = random.choice(STRATEGIES)
            sup["children"] = [
                self.sup(f"{id}{at}", depth - 1)
                if depth > 0 and random.random() < 0.3
                else self.worker(f"{id[0]}w{len(self.workers)}")
                for at in range(random.randint(1, 4))
            ]
        if random.random() < 0.8:
            sup["intensity"] = random.choice((0, 1, 2, 3, 10))
        if random.random() < 0.8:
            sup["period"] = random.choice((1, 60, 60))
        if random.random() < 0.6:
            sup["auto_shutdown"] = random.choice(("never", "any_significant", "all_significant"))
        if sup.get("auto_shutdown", "never") == "never":
            for child in sup["children"]:
                if random.random() < 0.97:
                    child.pop("significant", None)
        return sup

    def life(self, is_sup: bool) -> dict[str, Json]:
        """What a child spec says of its life."""
        random = self.random
        restart = random.choice(("permanent", "transient", "temporary"))
        life: dict[str, Json] = {"restart": restart, "significant": False}
        if restart != "permanent" or random.random() < 0.03:
            life["significant"] = random.random() < 0.6
        life["shutdown"] = random.choice(SHUTDOWNS)
        if is_sup and random.random() < 0.7:
            life["shutdown"] = "infinity"
        return life

    def worker(self, id: str, add: bool = True) -> Json:
        random = self.random
        if add:
            self.workers.append(id)
        worker: Json = {
            "id": id,
            "register": self.named,
            "trap_exit": random.random() < 0.5,
            **self.life(False),
        }
        if random.random() < 0.1:
            del worker["shutdown"]
        if random.random() < 0.25:
            worker["terminate"] = random.choice(
                (
                    ["error", "oops"],
                    ["exit", "oops"],
                    ["throw", "oops"],
                    ["exit", "normal"],
                    ["exit", "shutdown"],
                )
            )
        if random.random() < 0.15:
            worker["terminate_delay_ms"] = random.choice((100, 600))
        if random.random() < 0.25:
            worker["init"] = {
                "seq": [
                    "ok",
                    *(self.init() for _ in range(random.randint(1, 3))),
                    random.choice(("ok", "ignore")),
                ]
            }
        elif random.random() < 0.05:
            worker["init"] = self.init()
        return worker

    def init(self) -> Json:
        random = self.random
        return random.choice((
            "ok", "ok", "ignore", "bad", ["stop", random.choice(REASONS)], ["error", "boom"], ["exit", random.choice(REASONS)],
            ["throw", "boom"], ["continue", ["stop", random.choice(REASONS)]], ["timeout", 0],
        ))  # fmt: skip

    def child(self) -> str:
        return self.random.choice(self.workers or ["nobody"])

    def step(self) -> Json:
        random = self.random
        by = "driver"
        step: Json = {"by": by, "do": [self.accident() for _ in range(random.choice((1, 1, 1, 2, 3)))]}
        if random.random() < 0.85:
            step["settle_ms"] = random.choice((SETTLE_MS, SETTLE_MS, 1500))
        return step

    def accident(self) -> Json:
        random = self.random
        kind = random.choice(
            ("act", "act", "act", "act", "exit", "exit", "order", "order", "order", "add", "sup")
        )
        reason = random.choice(REASONS)
        match kind:
            case "act":
                act = random.choice((
                    ["stop", reason], ["stop", reason], ["error", "boom"], ["exit", reason], ["throw", "boom"], ["bad"],
                    ["continue", ["stop", reason]], ["timeout", 100], ["sleep", 100, ["stop", reason]],
                ))  # fmt: skip
                return {"op": random.choice(("cast", "info")), "to": self.child(), "act": act}
            case "exit":
                return {"op": "exit", "to": self.child(), "reason": reason}
            case "order":
                sup = random.choice(self.sups)
                op = random.choice(("terminate_child", "restart_child", "delete_child"))
                child = random.choice(
                    [self.child(), self.child(), random.choice(self.sups), {"pid": self.child()}]
                )
                return {"op": op, "sup": sup, "child": child}
            case "add":
                self.extra += 1
                if self.simple and random.random() < 0.5:
                    id = f"dyn{self.extra}"
                    self.workers.append(id)
                    return {"op": "start_child", "sup": random.choice(self.simple), "args": [id]}
                child_spec = self.worker(f"new{self.extra}")
                if random.random() < 0.7:
                    child_spec.pop("significant", None)
                return {"op": "start_child", "sup": random.choice(self.sups), "child": child_spec}
        return {
            "op": "exit",
            "to": random.choice(self.sups),
            "reason": random.choice(("shutdown", "normal", "boom", "kill")),
        }

    def question(self) -> Json:
        random = self.random
        sup = random.choice(self.sups)
        match random.choice(("which_children", "count_children", "get_childspec")):
            case "get_childspec":
                return {
                    "op": "get_childspec",
                    "sup": sup,
                    "child": random.choice([self.child(), random.choice(self.sups)]),
                }
            case op:
                return {"op": op, "sup": sup}

    def ending(self) -> Json:
        random = self.random
        return random.choice((
            {"op": "gen_stop", "to": "root", "reason": random.choice(REASONS)},
            {"op": "exit", "to": "root", "reason": random.choice(REASONS)},
            {"op": "exit_self", "reason": random.choice(REASONS), "class": random.choice(("exit", "error", "throw"))},
        ))  # fmt: skip


class Plain:
    """Plain processes that link, monitor, trap, name and end one another."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.ids: list[str] = ["driver"]
        self.refs: list[str] = []
        self.names = ("n1", "n2", "driver")

    def scenario(self) -> list[Json]:
        """A few processes, then what they do to one another."""
        steps: list[Json] = [{"do": [self.spawn() for _ in range(self.random.randint(2, 4))]}]
        for _ in range(self.random.randint(4, 12)):
            steps.append(self.step())
        looks = ("links_of", "monitors_of", "mailbox_of")
        steps.append(
            {"do": [{"op": op, "to": id} for op in looks for id in self.ids], "settle_ms": SETTLE_MS}
        )
        return steps

    def spawn(self) -> Json:
        random = self.random
        id = random.choice("pqrs")
        self.ids.append(id)
        op: Json = {
            "op": "spawn",
            "id": id,
            "trap": random.random() < 0.5,
            "mode": random.choice(("auto", "auto", "manual")),
        }
        if random.random() < 0.4:
            op["link"] = True
        if random.random() < 0.4:
            op["monitor"] = True
            op["as"] = self.ref()
        return op

    def ref(self) -> str:
        self.refs.append(f"r{len(self.refs)}")
        return self.refs[-1]

    def step(self) -> Json:
        random = self.random
        step: Json = {"by": random.choice([*self.ids, "driver"]), "do": []}
        for _ in range(random.choice((1, 1, 2, 3, 4))):
            op = self.op()
            step["do"].append(op)
            if op["op"] in ("exit_self", "return", "mode"):
                break
        if random.random() < 0.4:
            step["settle_ms"] = SETTLE_MS
        return step

    def op(self) -> Json:
        random = self.random
        who = random.choice([*self.ids, "self"])
        reason = random.choice([*REASONS, {"pid": random.choice(self.ids)}])
        kind = random.choice((
            "spawn", "link", "link", "unlink", "monitor", "monitor", "demonitor", "demonitor", "exit", "exit", "exit_self",
            "return", "trap_exit", "send", "register", "unregister", "whereis", "timer", "timer_left", "receive", "flush",
            "look", "mode",
        ))  # fmt: skip
        match kind:
            case "spawn":
                return self.spawn()
            case "monitor":
                to = {"name": random.choice(self.names)} if random.random() < 0.3 else who
                return {"op": kind, "to": to, "as": self.ref()}
            case "demonitor":
                opts = [opt for opt in ("flush", "info") if random.random() < 0.5]
                return {"op": kind, "ref": random.choice(self.refs or ["none"]), "opts": opts}
            case "exit":
                return {"op": kind, "to": who, "reason": reason}
            case "exit_self":
                return {"op": kind, "reason": reason, "class": random.choice(("exit", "error", "throw"))}
            case "return" | "flush":
                return {"op": kind}
            case "trap_exit":
                return {"op": kind, "value": random.random() < 0.5}
            case "send":
                to = {"name": random.choice(self.names)} if random.random() < 0.3 else who
                return {"op": kind, "to": to, "msg": self.message(reason)}
            case "register":
                return {"op": kind, "name": random.choice(self.names), "to": who}
            case "unregister" | "whereis":
                return {"op": kind, "name": random.choice(self.names)}
            case "timer":
                to = {"name": random.choice(self.names)} if random.random() < 0.3 else who
                op = random.choice(("send_after", "start_timer"))
                return {
                    "op": op,
                    "ms": random.choice((0, 300, 400)),
                    "to": to,
                    "msg": self.message(reason),
                    "as": self.ref(),
                }
            case "timer_left":
                op = random.choice(("cancel_timer", "read_timer"))
                return {"op": op, "ref": random.choice(self.refs or ["none"])}
            case "receive":
                wanted: Json = random.choice(({"tag": "DOWN"}, {"tag": "EXIT"}, {"tag": "hello"}, {}))
                return {"op": kind, **wanted, "after": random.choice((0, 0, 100))}
            case "look":
                return {"op": random.choice(("links_of", "monitors_of", "is_alive")), "to": who}
            case "mode":
                return {"op": kind, "mode": random.choice(("auto", "manual"))}
        return {"op": kind, "to": who}

    def message(self, reason: Json) -> Json:
        random = self.random
        return random.choice(
            ("hello", {"t": ["hello", 1]}, {"t": ["EXIT", {"pid": random.choice(self.ids)}, reason]}, reason)
        )


class Servers:
    """gen_servers, linked or not, that are called, cast to, stopped and killed by several processes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.callers = ["driver"]
        self.servers: list[str] = []
        self.keys = 0

    def scenario(self) -> list[Json]:
        """Processes, servers, and their talk."""
        random = self.random
        steps: list[Json] = [{"do": [self.spawn(id) for id in ("p", "q")]}]
        for id in ("v", "w")[: random.randint(1, 2)]:
            steps.append(
                {
                    "by": random.choice(("driver", "driver", "p")),
                    "do": [self.start(id)],
                    "settle_ms": SETTLE_MS,
                }
            )
        for _ in range(random.randint(3, 9)):
            steps.append(self.step())
        steps.append(
            {"do": [{"op": "is_alive", "to": id} for id in self.servers], "settle_ms": 2 * SETTLE_MS}
        )
        return steps

    def spawn(self, id: str) -> Json:
        self.callers.append(id)
        random = self.random
        return {"op": "spawn", "id": id, "trap": random.random() < 0.5, "link": random.random() < 0.2}

    def start(self, id: str) -> Json:
        random = self.random
        self.servers.append(id)
        worker: Json = {"id": id, "trap_exit": random.random() < 0.5}
        if random.random() < 0.5:
            worker["init"] = Trees(random).init()
        if random.random() < 0.2:
            worker["init_delay_ms"] = 200
            if random.random() < 0.5:
                worker["start_timeout"] = random.choice((50, 600))
        if random.random() < 0.3:
            worker["terminate"] = random.choice(
                (["error", "oops"], ["exit", random.choice(REASONS)], ["throw", "oops"])
            )
        if random.random() < 0.2:
            worker["terminate_delay_ms"] = 200
        return {"op": "start_worker", "worker": worker, "link": random.random() < 0.6}

    def step(self) -> Json:
        random = self.random
        ops = [self.op() for _ in range(random.choice((1, 1, 2, 3)))]
        step: Json = {"by": random.choice(self.callers), "do": ops}
        if random.random() < 0.6:
            step["settle_ms"] = SETTLE_MS
        return step

    def op(self) -> Json:
        random = self.random
        to: Json = random.choice(self.servers)
        if random.random() < 0.3:
            to = {"name": to}
        reason = random.choice(REASONS)
        match random.choice(
            ("call", "call", "call", "cast", "info", "exit", "gen_stop", "link", "monitor", "start", "send")
        ):
            case "call":
                return {
                    "op": "call",
                    "to": to,
                    "act": self.act(2),
                    "timeout": random.choice((0, 50, 400, "infinity")),
                }
            case "cast" | "info" as kind:
                return {"op": kind, "to": to, "act": self.act(2)}
            case "gen_stop":
                return {
                    "op": "gen_stop",
                    "to": to,
                    "reason": reason,
                    "timeout": random.choice((0, 50, "infinity")),
                }
            case "exit":
                return {"op": "exit", "to": random.choice(self.servers), "reason": reason}
            case "start":
                return self.start(random.choice("vw"))
            case "send":
                exit_message = {"t": ["EXIT", {"pid": random.choice(self.callers)}, reason]}
                return {
                    "op": "send",
                    "to": random.choice(self.servers),
                    "msg": random.choice(("hello", exit_message)),
                }
            case kind:
                return {"op": kind, "to": random.choice(self.servers)}

    def act(self, depth: int) -> Json:
        random = self.random
        reason = random.choice(REASONS)
        acts: list[Json] = [
            ["noop"], ["reply", 1], ["stop", reason], ["stop_reply", reason, 2], ["error", "boom"], ["exit", reason],
            ["throw", reason], ["bad"], ["timeout", random.choice((0, 200))], ["hibernate"], self.kept(), self.kept(),
        ]  # fmt: skip
        if depth > 0:
            inner = self.act(depth - 1)
            acts += [
                ["continue", inner],
                ["sleep", 100, inner],
                ["reply_then", 3, inner],
                ["do", [self.inner()]],
            ]
        return random.choice(acts)

    def kept(self) -> Json:
        self.keys += 1
        if self.random.random() < 0.5:
            return ["defer", f"k{self.keys}"]
        return ["answer", f"k{self.random.randint(1, self.keys)}", 4]

    def inner(self) -> Json:
        random = self.random
        return random.choice((
            {"op": "link", "to": random.choice(self.callers)}, {"op": "unlink", "to": random.choice(self.callers)},
            {"op": "exit", "to": random.choice(self.callers), "reason": random.choice(REASONS)},
            {"op": "exit", "to": "self", "reason": random.choice(REASONS)},
            {"op": "exit_self", "reason": random.choice(REASONS), "class": random.choice(("exit", "error", "throw"))},
            {"op": "trap_exit", "value": random.random() < 0.5}, {"op": "unregister", "name": random.choice(self.servers)},
            {"op": "monitor", "to": random.choice(self.callers)},
        ))  # fmt: skip


MADE: dict[str, Callable[[Random], Trees | Plain | Servers]] = {
    "trees": Trees,
    "processes": Plain,
    "servers": Servers,
}


def made_scenarios(kind: str, count: int, seed: int = 0) -> Iterator[tuple[str, list[Json]]]:
    """`count` scenarios of a kind, `(name, steps)`; the same for the same seed."""
    for number in range(count):
        name = f"{kind}/{seed}/{number}"
        yield name, MADE[kind](Random(name)).scenario()
