"""Random starts of trees: flags and specs that are wrong, start functions that return or raise anything, supervisors that ignore.

What starts does so as a child of a tree, by start_child, or again at a restart; whoever asks may be a child of the supervisor.
"""

from __future__ import annotations

from random import Random

from .random_trees import STRATEGIES
from .reasons import REASONS, SETTLE_MS, worker_init
from .terms import Json

WRONG_FLAGS: list[dict[str, Json]] = [
    {"strategy": "one_for_two"}, {"strategy": 1}, {"intensity": -1}, {"intensity": "many"}, {"period": 0}, {"period": -5},
    {"period": "long"}, {"auto_shutdown": "sometimes"}, {"intensity": -1, "period": 0}, {"strategy": "no", "auto_shutdown": "no"},
]  # fmt: skip
WRONG_FIELDS: list[dict[str, Json]] = [
    {"restart": "always"}, {"shutdown": -1}, {"shutdown": "soon"}, {"significant": "maybe"}, {"significant": True},
    {"significant": True, "restart": "transient"}, {"significant": 1, "shutdown": -1}, {"restart": 0, "significant": "x"},
]  # fmt: skip


class Starts:
    """Trees that do not start, or not all of them, and what is asked of those that do."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.sups: list[str] = []
        self.children: list[str] = []
        self.made = 0

    def scenario(self) -> list[Json]:
        """Processes that start functions return, a tree or two, and calls of their functions."""
        random = self.random
        steps: list[Json] = [
            {"do": [{"op": "spawn", "id": id, "trap": random.random() < 0.5} for id in ("p", "q")]},
            self.start(),
        ]
        for _ in range(random.randint(3, 8)):
            steps.append(random.choice((self.start, self.order, self.order, self.order, self.accident))())
        steps.append({"do": [{"op": "which_children", "sup": sup} for sup in self.sups]})
        steps.append(
            {"do": [{"op": "links_of", "to": "driver"}, {"op": "count_children", "sup": self.any_sup()}]}
        )
        steps.append(
            {"do": [{"op": "exit", "to": self.any_sup(), "reason": "shutdown"}], "settle_ms": SETTLE_MS}
        )
        return steps

    def new(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}{self.made}"

    def any_sup(self) -> str:
        return self.random.choice(self.sups or ["nobody"])

    def start(self) -> Json:
        by = self.random.choice(("driver", "driver", "driver", "p", "q"))
        return {"by": by, "do": [{"op": "start_tree", "tree": self.sup(2)}], "settle_ms": SETTLE_MS}

    def sup(self, depth: int) -> Json:
        random = self.random
        id = self.new("s")
        self.sups.append(id)
        sup: Json = {
            "kind": "sup",
            "id": id,
            "strategy": random.choice(STRATEGIES),
            "intensity": random.choice((0, 1, 3)),
            "period": 60,
        }
        if random.random() < 0.2:
            sup["strategy"] = "simple_one_for_one"
        if random.random() < 0.15:
            sup.update(random.choice(WRONG_FLAGS))
        if random.random() < 0.15:
            sup["init"] = random.choice(("ignore", "bad", ["error", "no"], ["exit", random.choice(REASONS)]))
        if random.random() < 0.2:
            sup["auto_shutdown"] = random.choice(("any_significant", "all_significant"))
        if random.random() < 0.3:
            sup["restart"] = random.choice(("permanent", "transient", "temporary"))
        if random.random() < 0.2:
            sup["register"] = False
        count = (
            random.choice((1, 1, 1, 0, 2))
            if sup["strategy"] == "simple_one_for_one"
            else random.randint(0, 4)
        )
        sup["children"] = [self.child(depth) for _ in range(count)]
        if len(sup["children"]) > 1 and random.random() < 0.05:
            sup["children"][-1]["id"] = sup["children"][0]["id"]
        return sup

    def child(self, depth: int) -> Json:
        random = self.random
        if depth > 0 and random.random() < 0.25:
            return self.sup(depth - 1)
        id = self.new("w")
        self.children.append(id)
        child: Json = {"id": id, "restart": random.choice(("permanent", "transient", "temporary"))}
        if random.random() < 0.5:
            child["trap_exit"] = True
        if random.random() < 0.15:
            child["register"] = False
        if random.random() < 0.3:
            child["start"] = self.start_function()
        elif random.random() < 0.4:
            child["init"] = {"seq": [random.choice(("ok", worker_init(random))), worker_init(random), "ok"]}
        if random.random() < 0.1:
            child.update(random.choice(WRONG_FIELDS))
        if random.random() < 0.1:
            child["init_do"] = [self.inside()]
            if child["init_do"][0]["op"] != "spawn":
                child["start_timeout"] = 100
        if random.random() < 0.1:
            child["terminate_do"], child["shutdown"] = [self.inside()], 200
        return child

    def start_function(self) -> Json:
        """What a start function returns or raises at once."""
        random = self.random
        pid = {"pid": random.choice("pq")}
        return random.choice((
            ["return", {"t": ["ok", pid]}], ["return", {"t": ["ok", pid, "extra"]}], ["return", "ignore"], ["return", "garbage"],
            ["return", {"t": ["error", random.choice(REASONS)]}], ["return", {"t": ["ok", "nobody"]}], ["return", {"t": ["ok"]}],
            ["return", {"t": ["ok", "undefined"]}], ["return", {"t": ["error", "no", "more"]}], ["return", pid], ["return", []],
            ["error", "no"], ["exit", random.choice(REASONS)], ["exit", {"t": ["shutdown", "no"]}],
        ))  # fmt: skip

    def inside(self) -> Json:
        """An op of a callback: it may be a call of the supervisor that waits for that callback."""
        random = self.random
        return random.choice((
            {"op": "spawn", "id": self.new("x"), "link": True}, {"op": "which_children", "sup": self.any_sup()},
            {"op": "terminate_child", "sup": self.any_sup(), "child": self.any_child()},
            {"op": "call", "to": {"name": self.any_child()}, "act": ["noop"], "timeout": 50},
        ))  # fmt: skip

    def any_child(self) -> str:
        return self.random.choice([*self.children, *self.sups] or ["nobody"])

    def order(self) -> Json:
        """A call of a supervisor's functions."""
        random = self.random
        sup: Json = self.any_sup()
        if random.random() < 0.2:
            sup = {"name": sup}
        match random.choice(("add", "add", "copy", "stop", "again", "drop", "ask", "ask")):
            case "add":
                op = {"op": "start_child", "sup": sup, "child": self.child(1)}
            case "copy":
                more: list[Json] = [
                    {"start": self.start_function()},
                    {"init": worker_init(random)},
                    {"trap_exit": True},
                ]
                extra = [random.choice(more)] if random.random() < 0.6 else []
                id = self.new("c")
                self.children.append(id)
                op = {"op": "start_child", "sup": sup, "args": [id, *extra]}
            case "ask":
                name = random.choice(("which_children", "count_children", "get_childspec"))
                op = {"op": name, "sup": sup}
                if name == "get_childspec":
                    op["child"] = random.choice((self.any_child(), {"pid": self.any_child()}, 7))
            case kind:
                name = {"stop": "terminate_child", "again": "restart_child", "drop": "delete_child"}[kind]
                op = {
                    "op": name,
                    "sup": sup,
                    "child": random.choice((self.any_child(), self.any_child(), {"pid": self.any_child()})),
                }
        by = random.choice(("driver", "driver", "p", *self.children[:3]))
        return {"by": by, "do": [op], "settle_ms": SETTLE_MS}

    def accident(self) -> Json:
        """The end of a child, or of what a start function called its child."""
        random = self.random
        who = random.choice([*self.children, *self.sups, "p", "q"])
        op = random.choice((
            {"op": "exit", "to": who, "reason": random.choice(REASONS)}, {"op": "link", "to": who}, {"op": "unlink", "to": who},
            {"op": "cast", "to": who, "act": ["stop", random.choice(REASONS)]}, {"op": "gen_stop", "to": who, "timeout": 500},
            {"op": "cast", "to": who, "act": ["do", [self.inside()]]},
            {"op": random.choice(("links_of", "monitors_of", "mailbox_of")), "to": who},
        ))  # fmt: skip
        return {"by": random.choice(("driver", "driver", "p")), "do": [op], "settle_ms": SETTLE_MS}
