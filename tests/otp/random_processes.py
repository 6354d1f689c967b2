"""Random plain processes: exits in every way, links and monitors, names and timers that change hands."""

from __future__ import annotations

from random import Random

from .reasons import REASONS, SETTLE_MS
from .terms import Json


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
        if random.random() < 0.06:
            return self.wrong(who)
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

    def wrong(self, who: str) -> Json:
        """An op that raises badarg, or does nothing, wherever it stands."""
        random = self.random
        name = {"name": random.choice(self.names)}
        return random.choice((
            {"op": "exit", "to": name, "reason": "boom"}, {"op": "link", "to": name}, {"op": "unlink", "to": name},
            {"op": "is_alive", "to": name}, {"op": "links_of", "to": name},
            {"op": "register", "name": "undefined", "to": who}, {"op": "register", "name": random.choice(self.names), "to": name},
            {"op": "unregister", "name": "nobody"}, {"op": "send", "to": {"name": "nobody"}, "msg": "hello"},
            {"op": "send_after", "ms": -1, "to": who, "msg": "hello"}, {"op": "start_timer", "ms": 1 << 64, "to": who, "msg": 1},
            {"op": "send_after", "ms": 0, "to": {"name": "nobody"}, "msg": "hello"},
            {"op": "demonitor", "ref": random.choice(self.refs or ["none"]), "opts": ["sideways"]},
            {"op": "link", "to": "nobody"}, {"op": "monitor", "to": {"name": "undefined"}},
        ))  # fmt: skip

    def message(self, reason: Json) -> Json:
        random = self.random
        return random.choice(
            ("hello", {"t": ["hello", 1]}, {"t": ["EXIT", {"pid": random.choice(self.ids)}, reason]}, reason)
        )
