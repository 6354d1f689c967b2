"""Random trees of supervisors: strategies with significant children and every kind of shutdown, intensities at their border."""

from __future__ import annotations

from random import Random

from .reasons import REASONS, SETTLE_MS, worker_init
from .terms import Json

SHUTDOWNS: list[Json] = ["brutal_kill", "infinity", 0, 300, 5000]
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


class Trees:
    """A tree of supervisors and what befalls it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.sups: list[str] = []
        self.workers: list[str] = []
        self.simple: list[str] = []
        self.extra = 0
        self.named = random.random() < 0.5
        self.callers = ["p", "q"]  # who may wait for an answer that never comes

    def scenario(self) -> list[Json]:
        """Start it, then a few accidents and questions, then its end."""
        random = self.random
        tree = self.sup("root", 2)
        del tree["restart"], tree["significant"], tree["shutdown"]
        steps: list[Json] = [
            {"do": [{"op": "start_tree", "tree": tree}], "settle_ms": SETTLE_MS},
            {"do": [{"op": "spawn", "id": id} for id in self.callers]},
        ]
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
            template = self.worker(f"{id}t", add=False)
            if template.get("shutdown") == 0:
                template["shutdown"] = 300  # a timer of 0 ms and the child's terminate race
            sup["children"] = [template]
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
                    *(worker_init(random) for _ in range(random.randint(1, 3))),
                    random.choice(("ok", "ignore")),
                ]
            }
        elif random.random() < 0.05:
            worker["init"] = worker_init(random)
        return worker

    def child(self) -> str:
        return self.random.choice(self.workers or ["nobody"])

    def step(self) -> Json:
        random = self.random
        step: Json = {"do": [self.accident() for _ in range(random.choice((1, 1, 1, 2, 3)))]}
        if random.random() < 0.15:
            sup = random.choice(self.sups)
            step["do"].insert(0, {"op": random.choice(("suspend", "resume", "resume")), "to": sup})
        if random.random() < 0.3:
            step["by"] = random.choice(self.callers)
        if random.random() < 0.85:
            step["settle_ms"] = random.choice((SETTLE_MS, SETTLE_MS, 1500))
        return step

    def accident(self) -> Json:
        random = self.random
        kind = random.choice(
            ("act", "act", "act", "act", "exit", "exit", "order", "order", "order", "add", "sup", "wrong")
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
            case "wrong":
                return self.wrong()
        return {
            "op": "exit",
            "to": random.choice(self.sups),
            "reason": random.choice(("shutdown", "normal", "boom", "kill")),
        }

    def wrong(self) -> Json:
        """A child spec that is none, or one whose id is there already."""
        random = self.random
        sup = random.choice(self.sups)
        child: Json = {"id": self.child(), "register": self.named}
        if random.random() < 0.8:
            self.extra += 1
            field, value = random.choice((
                ("restart", "always"), ("restart", 7), ("shutdown", -1), ("shutdown", "never"), ("shutdown", "infinity"),
                ("significant", "maybe"), ("significant", True),
            ))  # fmt: skip
            child = {"id": f"bad{self.extra}", "register": self.named, field: value}
        return {"op": "start_child", "sup": sup, "child": child}

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
