"""Makes random programs of Elixir's Registry, DynamicSupervisor and Task, for `performer.py` and `random.exs` to perform.

Times are far apart for a real clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from .performer import Op

REASONS = ("normal", "shutdown", "kill", "boom", "noconnection")
LATE = 1500  # ms; a timeout of 30 comes before it, one of 4000 after it


class Programs:
    """Makes one program."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.alive: list[str] = []
        self.ids: list[str] = []

    def registry(self) -> list[Op]:
        """Two or three workers, that register and go."""
        ops: list[Op] = [["worker", id] for id in ("w1", "w2", "w3")]
        self.alive = ["w1", "w2", "w3"]
        for _ in range(self.random.randint(8, 20)):
            ops.append(self.registry_op())
        return [*ops, ["select", "u"], ["select", "d"], ["count", "u"], ["count", "d"]]

    def registry_op(self) -> Op:
        random = self.random
        name, key = random.choice("ud"), random.choice(("k1", "k2", 1))
        value: Any = random.choice(("a", "b", {"t": [1, "a"]}, {"t": [2, "a"]}))
        pattern: Any = random.choice((value, "_", {"t": ["_", "a"]}, {"t": [1, "_"]}))
        anybody = random.choice(("w1", "w2", "w3"))
        if not self.alive:
            self.alive.append(anybody)
            return ["worker", anybody]
        somebody = random.choice(self.alive)
        match random.choice((
            "reg", "reg", "reg", "reg", "unreg", "unreg_match", "update", "lookup", "keys", "values", "match", "count_match",
            "dispatch", "whereis", "rsend", "end",
        )):  # fmt: skip
            case "reg":
                return ["reg", somebody, name, key, value]
            case "unreg":
                return ["unreg", somebody, name, key]
            case "unreg_match":
                return ["unreg_match", somebody, name, key, pattern]
            case "update":
                return ["update", somebody, key]
            case "keys":
                return ["keys", name, anybody]
            case "values":
                return ["values", name, key, anybody]
            case "match" | "count_match" as op:
                return [op, name, key, pattern]
            case "whereis" | "rsend" as op:
                return [op, key]
            case "end":
                self.alive.remove(somebody)
                return ["end", somebody, random.choice(REASONS)]
            case op:
                return [op, name, key]

    def children(self) -> list[Op]:
        """A DynamicSupervisor near its bounds."""
        random = self.random
        ops: list[Op] = [
            ["trap", True],
            ["sup", random.choice(("infinity", 0, 1, 2, 3)), random.choice((0, 1, 2, 3))],
        ]
        for _ in range(random.randint(6, 16)):
            match random.choice(
                ("start", "start", "start", "stop_child", "stop_child", "terminate", "children", "which")
            ):
                case "start":
                    kind = ("ok", "ok", "info", "trap", "ignore", "error", "bad", "raise", "exit", "throw")
                    kinds = [random.choice(kind[:4]) if random.random() < 0.8 else random.choice(kind)]
                    kinds += [random.choice(kind) for _ in range(random.randint(0, 3))]
                    restart = random.choice(("permanent", "transient", "temporary"))
                    self.ids.append(f"c{len(self.ids)}")
                    ops.append(["start", self.ids[-1], kinds, restart])
                case "stop_child":
                    ops.append(["stop_child", random.choice(self.ids or ["c0"]), random.choice(REASONS)])
                case "terminate":
                    ops.append(["terminate", random.choice(self.ids or ["c0"])])
                case op:
                    ops.append([op])
        return [*ops, ["children"], ["which"], ["mail"]]

    def tasks(self) -> list[Op]:
        """Tasks that are waited for in every way."""
        random = self.random
        ops: list[Op] = [["trap", random.random() < 0.7], ["tasks"]]
        for _ in range(random.randint(5, 12)):
            ops.append(self.task_op())
        return [*ops, ["sup_children"], ["mail"]]

    def task_op(self) -> Op:
        random = self.random
        timeout = random.choice((0, 30, 4000))
        if not self.ids or random.random() < 0.35:
            self.ids.append(f"t{len(self.ids)}")
            return ["task", self.ids[-1], random.choice(("plain", "sup", "nolink")), self.body()]
        id = random.choice(self.ids)
        some = sorted({random.choice(self.ids) for _ in range(random.randint(1, 3))})
        match random.choice(
            (
                "await",
                "await",
                "yield",
                "yield",
                "shutdown",
                "ignore",
                "await_many",
                "yield_many",
                "stream",
                "mail",
            )
        ):
            case "shutdown":
                return ["shutdown", id, random.choice((30, 4000, "brutal_kill"))]
            case "ignore":
                return ["ignore", id]
            case "await_many" | "yield_many" as op:
                return [op, some, timeout]
            case "stream":
                inputs = [
                    random.choice((1, 300, 600, "boom") if random.random() < 0.3 else (1, 300, 600))
                    for _ in range(4)
                ]
                options: list[list[Any]] = [["max_concurrency", random.choice((1, 2, 4))]]
                if random.random() < 0.5:
                    options += [["timeout", 450], ["on_timeout", random.choice(("kill_task", "exit"))]]
                return ["stream", inputs, options]
            case "mail":
                return ["mail"]
            case op:
                return [op, id, timeout]

    def body(self) -> Any:
        random = self.random
        body: Any = random.choice(
            (["value", 1], ["value", 1], ["exit", random.choice(REASONS)], ["raise"], ["throw"], ["hold"])
        )
        if random.random() < 0.5:
            body = ["after", LATE, body]
        return ["trap", body] if random.random() < 0.2 else body


def random_programs(count: int, seed: int = 0) -> Iterator[tuple[str, list[Op]]]:
    """`count` programs of each kind, `(name, ops)`; the same for the same seed."""
    for kind in ("registry", "children", "tasks"):
        for number in range(count):
            name = f"{kind}/{seed}/{number}"
            yield name, getattr(Programs(Random(name)), kind)()
