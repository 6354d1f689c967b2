"""Random event managers: handlers that come, hear, are swapped and go, with and without somebody who answers for them."""

from __future__ import annotations

from random import Random

from .reasons import REASONS, SETTLE_MS
from .terms import Json

IDS = ("h1", "h2", "h3")


class Managers:
    """One manager, or two, and three processes that deal with them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.managers: list[str] = []
        self.callers = ["driver", "p", "q"]

    def scenario(self) -> list[Json]:
        """Start it, let handlers come, then events and accidents."""
        random = self.random
        steps: list[Json] = [
            {"do": [{"op": "spawn", "id": id, "trap": random.random() < 0.5} for id in ("p", "q")]},
            {"by": random.choice(self.callers), "do": [self.start("m")]},
            {"by": random.choice(self.callers), "do": [self.add() for _ in range(random.randint(1, 3))]},
        ]
        for _ in range(random.randint(3, 9)):
            steps.append(self.step())
            if random.random() < 0.3:
                steps.append({"do": [{"op": "which_handlers", "to": "m"}]})
        steps.append({"do": [{"op": "which_handlers", "to": "m"}, {"op": "links_of", "to": "m"}]})
        steps.append({"do": [self.ending()], "settle_ms": SETTLE_MS})
        return steps

    def start(self, id: str) -> Json:
        self.managers.append(id)
        return {"op": "start_manager", "id": id, "link": self.random.random() < 0.7}

    def successor(self) -> Json:
        """What takes a handler's own place does not hibernate in its init: OTP 25 takes that for a crash."""
        spec = self.spec()
        if spec.get("init") == "hibernate":
            del spec["init"]
        return spec

    def spec(self) -> Json:
        random = self.random
        spec: Json = {"id": random.choice(IDS)}
        if random.random() < 0.2:
            spec["init"] = random.choice((
                "hibernate", ["return", "nope"], ["return", {"t": ["error", "nope"]}], ["return", {"t": ["ok"]}],
                ["error", "boom"], ["exit", random.choice(REASONS)], ["throw", "boom"],
            ))  # fmt: skip
        if random.random() < 0.15:
            spec["terminate"] = random.choice((["error", "oops"], ["exit", "oops"], ["throw", "oops"]))
        return spec

    def add(self) -> Json:
        op: Json = {"op": "add_handler", "to": "m", "spec": self.spec()}
        if self.random.random() < 0.5:
            op["sup"] = True
        return op

    def act(self) -> Json:
        random = self.random
        return random.choice((
            ["ok"], ["ok"], ["ok"], ["hibernate"], ["remove"], ["bad"], ["swap", "arg", self.successor()],
            ["swap", "arg", self.successor()], ["error", "boom"], ["exit", random.choice(REASONS)], ["throw", "boom"],
        ))  # fmt: skip

    def event(self) -> Json:
        return [self.random.choice(("all", *IDS)), self.act()]

    def step(self) -> Json:
        random = self.random
        step: Json = {"by": random.choice(self.callers), "do": []}
        for _ in range(random.choice((1, 1, 2, 3))):
            op = self.op()
            step["do"].append(op)
            if op["op"] in ("exit_self", "return"):
                break
        if random.random() < 0.4:
            step["settle_ms"] = SETTLE_MS
        return step

    def op(self) -> Json:
        random = self.random
        to: Json = {"name": "m"} if random.random() < 0.3 else "m"
        reason = random.choice(REASONS)
        handler = random.choice((*IDS, "nobody"))
        match random.choice((
            "add", "add", "delete", "swap", "swap", "notify", "notify", "notify", "sync_notify", "sync_notify", "info", "call",
            "call", "call", "send", "exit", "exit_self", "exit_caller", "start", "status", "statistics", "suspend",
        )):  # fmt: skip
            case "add":
                return {**self.add(), "to": to}
            case "delete":
                return {"op": "delete_handler", "to": to, "handler": handler, "arg": "gone"}
            case "swap":
                swap = {
                    "op": "swap_handler",
                    "to": to,
                    "handler": handler,
                    "arg": "swapped_out",
                    "spec": self.spec(),
                }
                return {**swap, "sup": True} if random.random() < 0.5 else swap
            case "notify" | "sync_notify" | "info" as op:
                return {"op": op, "to": to, "act": self.event()}
            case "call":
                timeout = random.choice(("infinity", "infinity", 400))
                return {
                    "op": "call_handler",
                    "to": to,
                    "handler": handler,
                    "act": self.act(),
                    "timeout": timeout,
                }
            case "send":
                exit_message = {"t": ["EXIT", {"pid": random.choice(self.callers)}, reason]}
                return {
                    "op": "send",
                    "to": "m",
                    "msg": random.choice(("hello", {"t": ["x", 1]}, exit_message)),
                }
            case "exit":
                return {"op": "exit", "to": "m", "reason": reason}
            case "exit_self":
                return {"op": "exit_self", "reason": reason}
            case "exit_caller":
                return {"op": "exit", "to": random.choice(self.callers), "reason": reason}
            case "start":
                return self.start("m")
            case "status":
                return {"op": "sys_status", "to": to}
            case "statistics":
                return {"op": "statistics", "to": to, "flag": random.choice(("true", "get", "get", "false"))}
        return {"op": random.choice(("suspend", "resume", "resume")), "to": to}

    def ending(self) -> Json:
        random = self.random
        return random.choice((
            {"op": "gen_stop", "to": "m", "reason": random.choice(REASONS)},
            {"op": "sys_terminate", "to": "m", "reason": random.choice(REASONS)},
            {"op": "exit", "to": "m", "reason": random.choice(REASONS)},
            {"op": "exit_self", "reason": random.choice(REASONS)},
        ))  # fmt: skip
