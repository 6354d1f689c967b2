"""Random scenarios like the recorded ones of `otp/random`: a tree whose children may fail to start again, and what befalls it.

Plain processes link to the workers and watch them; children are stopped, started, removed and asked for, at times of the wrong
supervisor. Where the names are registered, those that a restart takes are the names of those before.
"""

from __future__ import annotations

from random import Random

from .terms import Json

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
REASONS: tuple[Json, ...] = ("normal", "shutdown", {"t": ["shutdown", "x"]}, "kill", "boom", "boom")
FAILURES: tuple[Json, ...] = (
    "ignore", ["stop", "no"], ["stop", "normal"], ["error", "no"], ["exit", {"t": ["shutdown", "no"]}],
)  # fmt: skip
BEGINNINGS: tuple[Json, ...] = (
    "hibernate", ["timeout", 0], ["timeout", 30], ["throw", "ball"], "bad", ["continue", ["noop"]],
    ["continue", ["stop", "boom"]], ["continue", ["exit", "normal"]], {"seq": ["ok", ["continue", ["stop", "shutdown"]], "ok"]},
)  # fmt: skip
ENDINGS: tuple[Json, ...] = (
    ["error", "tb"], ["exit", "normal"], ["exit", "tx"], ["throw", "b"], ["exit", {"t": ["shutdown", "q"]}], ["exit", "kill"],
)  # fmt: skip


class Mixed:
    """A tree, two plain processes, and what befalls them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.count = 0
        self.workers: list[tuple[str, str]] = []  # with their supervisors
        self.sups: list[str] = []
        self.simple: list[str] = []
        self.plain = ["p", "q"]
        self.named = self.chance(0.5)
        self.significance = self.chance(0.3)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def next_id(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def scenario(self) -> list[Json]:
        """Start it, then accidents and orders, then perhaps its end."""
        start: list[Json] = [{"op": "start_tree", "tree": self.sup("root", 0)}]
        start += [{"op": "spawn", "id": id, "trap": self.chance(0.5)} for id in self.plain]
        steps: list[Json] = [{"do": start}]
        steps += [self.step() for _ in range(self.random.randint(6, 16))]
        steps.append({"do": [{"op": "which_children", "sup": self.random.choice(self.sups)}]})
        if self.chance(0.3):
            reason = self.random.choice(("shutdown", "boom", "kill", "normal"))
            steps.append({"do": [{"op": "exit", "to": "root", "reason": reason}]})
        return steps

    # ---- the tree

    def sup(self, id: str, depth: int) -> Json:
        random = self.random
        sup: Json = {
            "kind": "sup",
            "id": id,
            "period": 60,
            "strategy": random.choice(STRATEGIES),
            "register": self.named,
        }
        sup["intensity"] = random.choice((0, 1, 1, 2, 3, 4, 6))
        if self.significance and self.chance(0.7):
            sup["auto_shutdown"] = random.choice(("any_significant", "all_significant", "never"))
        if depth and self.chance(0.3):
            sup["restart"] = random.choice(("transient", "temporary"))
        if depth and self.chance(0.1):
            sup["shutdown"] = random.choice(("brutal_kill", 2000))
        self.sups.append(id)
        auto_shutdown = sup.get("auto_shutdown", "never")
        sup["children"] = [self.child(id, depth, auto_shutdown) for _ in range(random.randint(1, 4))]
        return sup

    def child(self, sup: str, depth: int, auto_shutdown: str) -> Json:
        if depth < 2 and self.chance(0.25):
            return self.sup(self.next_id("s"), depth + 1)
        if self.chance(0.2):
            id = self.next_id("y")
            self.simple.append(id)
            template = self.worker("template")
            template.pop("init", None)
            intensity = self.random.choice((0, 1, 3))
            return {
                "kind": "sup", "id": id, "period": 60, "strategy": "simple_one_for_one", "intensity": intensity,
                "register": self.named, "children": [template],
            }  # fmt: skip
        id = self.next_id("w")
        self.workers.append((id, sup))
        return self.worker(id, auto_shutdown)

    def worker(self, id: str, auto_shutdown: str = "never") -> Json:
        random = self.random
        worker: Json = {"id": id, "trap_exit": self.chance(0.5), "register": self.named}
        if self.chance(0.45):
            worker["restart"] = random.choice(("temporary", "transient", "transient"))
            if auto_shutdown != "never" and self.chance(0.5):
                worker["significant"] = True
        if self.chance(0.3):
            worker["shutdown"] = random.choice(("brutal_kill", 2000, "infinity"))
        if self.chance(0.15):
            failures = [random.choice(FAILURES) for _ in range(random.randint(1, 2))]
            worker["init"] = {"seq": ["ok"] * random.randint(1, 2) + failures + ["ok"]}
        elif self.chance(0.08):
            worker["init"] = random.choice(BEGINNINGS)
        if self.chance(0.1):
            worker["terminate"] = random.choice(ENDINGS)
        return worker

    # ---- what befalls it

    def somebody(self) -> str:
        return self.random.choice(self.workers)[0] if self.workers else "driver"

    def step(self) -> Json:
        random = self.random
        match random.choices(("exit", "request", "look", "start", "order", "plain"), (22, 30, 8, 8, 20, 10))[
            0
        ]:
            case "exit":
                target = random.choice([self.somebody(), self.somebody(), *self.sups, *self.simple])
                return {"do": [{"op": "exit", "to": target, "reason": random.choice(REASONS)}]}
            case "request":
                op = random.choice(("cast", "cast", "call", "call", "info"))
                return {"do": [{"op": op, "to": self.somebody(), "act": self.act()}]}
            case "look":
                sup = random.choice([*self.sups, *self.simple])
                return {"do": [{"op": op, "sup": sup} for op in ("which_children", "count_children")]}
            case "start":
                return {"do": [self.start()]}
            case "order":
                return {"do": [self.order() for _ in range(random.choice((1, 1, 2)))]}
        by = random.choice(self.plain)
        op = random.choice(("monitor", "link", "exit_self"))
        if op == "exit_self":
            return {"by": by, "do": [{"op": op, "reason": random.choice(REASONS)}]}
        return {"by": by, "do": [{"op": op, "to": random.choice([self.somebody(), *self.sups])}]}

    def act(self) -> Json:
        random = self.random
        reason, somebody = random.choice(REASONS), self.somebody()
        return random.choice((
            ["stop", reason], ["stop", reason], ["stop", reason], ["exit", reason], ["error", "e"], ["error", "normal"],
            ["reply", 1], ["stop_reply", reason, "bye"], ["bad"], ["throw", "ball"], ["noop"], ["hibernate"], ["timeout", 0],
            ["continue", ["stop", reason]], ["reply_then", 1, ["stop", "boom"]],
            ["do", [{"op": "trap_exit", "value": True}]], ["do", [{"op": "exit", "to": somebody, "reason": reason}]],
            ["do", [{"op": "link", "to": somebody}]], ["do", [{"op": "monitor", "to": somebody}]],
        ))  # fmt: skip

    def start(self) -> Json:
        if self.simple and self.chance(0.4):
            id, sup = self.next_id("d"), self.random.choice(self.simple)
            self.workers.append((id, sup))
            more: list[Json] = [{"init": self.random.choice(FAILURES)}] if self.chance(0.15) else []
            return {"op": "start_child", "sup": sup, "args": [id, *more]}
        sup = self.random.choice(self.sups)
        if self.chance(0.3):
            return {"op": "start_child", "sup": sup, "child": self.worker(self.somebody())}
        id = self.next_id("x")
        self.workers.append((id, sup))
        return {"op": "start_child", "sup": sup, "child": self.worker(id)}

    def order(self) -> Json:
        op = self.random.choice(("restart_child", "terminate_child", "delete_child"))
        id, sup = self.random.choice(self.workers) if self.workers else ("nobody", "root")
        if self.simple and self.chance(0.15):
            return {
                "op": op,
                "sup": self.random.choice(self.simple),
                "child": {"pid": id} if self.workers else id,
            }
        return {"op": op, "sup": self.random.choice(self.sups) if self.chance(0.15) else sup, "child": id}
