"""Random gen_servers: what callbacks return and raise, how servers start and stop, and who calls whom."""

from __future__ import annotations

from random import Random

from .reasons import REASONS, SETTLE_MS, worker_init
from .terms import Json


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
            worker["init"] = worker_init(random)
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
            (
                "call",
                "call",
                "call",
                "cast",
                "info",
                "exit",
                "gen_stop",
                "link",
                "monitor",
                "start",
                "send",
                "sys",
            )
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
            case "sys":
                return self.system(to)
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

    def system(self, to: Json) -> Json:
        """A function of `sys`, or a call of nobody and of itself."""
        random = self.random
        return random.choice((
            {"op": "suspend", "to": to}, {"op": "resume", "to": to}, {"op": "resume", "to": to}, {"op": "sys_status", "to": to},
            {"op": "statistics", "to": to, "flag": random.choice(("true", "get", "get", "false"))},
            {"op": "sys_terminate", "to": to, "reason": random.choice(REASONS)},
            {"op": "call", "to": random.choice(("self", {"name": "nobody"})), "act": ["noop"], "timeout": random.choice((0, 50))},
        ))  # fmt: skip

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
