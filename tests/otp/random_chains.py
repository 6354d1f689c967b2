"""Random chains of gen_servers: they call, start, stop and watch one another from within callbacks, with time running out."""

from __future__ import annotations

from random import Random

from .reasons import REASONS, SETTLE_MS, worker_init
from .terms import Json

LIMITS: tuple[Json, ...] = (0, 50, 150, 400, "infinity")


class Chains:
    """Servers that are each other's clients. A server that is the actor of a step does it in handle_info."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.servers: list[str] = []
        self.keys = 0
        self.refs: list[str] = []

    def scenario(self) -> list[Json]:
        """A few servers, then requests that are requests of others in turn."""
        random = self.random
        steps: list[Json] = [{"do": [{"op": "spawn", "id": "p", "trap": random.random() < 0.5}]}]
        for id in ("u", "v", "w")[: random.randint(2, 3)]:
            steps.append(
                {
                    "by": random.choice(["driver", "driver", "p", *self.servers]),
                    "do": [self.start(id)],
                    "settle_ms": 700,
                }
            )
        for _ in range(random.randint(3, 8)):
            ops = [self.op(2) for _ in range(random.choice((1, 1, 2, 3)))]
            step: Json = {"by": random.choice(["driver", "driver", "p", *self.servers]), "do": ops}
            if random.random() < 0.8:
                step["settle_ms"] = random.choice((100, SETTLE_MS, SETTLE_MS))
            steps.append(step)
        looks: list[Json] = [
            {"op": op, "to": id}
            for op in ("is_alive", "links_of", "monitors_of")
            for id in ["p", *self.servers]
        ]
        steps.append({"do": looks, "settle_ms": 2000})
        return steps

    def start(self, id: str) -> Json:
        random = self.random
        if id not in self.servers:
            self.servers.append(id)
        worker: Json = {"id": id, "trap_exit": random.random() < 0.5}
        if random.random() < 0.3:
            worker["init"] = worker_init(random)
        if random.random() < 0.25:
            worker["init_delay_ms"] = random.choice((100, 300))
        if random.random() < 0.25:
            worker["start_timeout"] = random.choice((50, 200))
        if random.random() < 0.25:
            worker["init_do"] = [self.op(0)]
        if random.random() < 0.25:
            worker["terminate_do"] = [self.op(0)]
        if random.random() < 0.15:
            worker["terminate"] = random.choice(
                (["error", "oops"], ["exit", random.choice(REASONS)], ["throw", "oops"])
            )
        return {"op": "start_worker", "worker": worker, "link": random.random() < 0.7}

    def op(self, depth: int) -> Json:
        random = self.random
        to: Json = random.choice([*self.servers, "p"])
        if random.random() < 0.3:
            to = {"name": to}
        who = random.choice([*self.servers, "p", "driver", "self"])
        match random.choice((
            "call", "call", "call", "cast", "info", "stop", "signal", "watch", "watch", "look", "look", "start", "self", "timer",
            "mail",
        )):  # fmt: skip
            case "call":
                return {"op": "call", "to": to, "act": self.act(depth), "timeout": random.choice(LIMITS)}
            case "cast" | "info" as kind:
                return {"op": kind, "to": to, "act": self.act(depth)}
            case "stop":
                return {
                    "op": "gen_stop",
                    "to": to,
                    "reason": random.choice(REASONS),
                    "timeout": random.choice(LIMITS),
                }
            case "signal":
                return {"op": "exit", "to": who, "reason": random.choice(REASONS)}
            case "watch":
                return self.watch(who)
            case "look":
                return {"op": random.choice(("links_of", "monitors_of", "mailbox_of", "is_alive")), "to": who}
            case "start":
                return (
                    self.start(random.choice([*self.servers, "x"]))
                    if depth
                    else {"op": "whereis", "name": "u"}
                )
            case "timer":
                return {
                    "op": random.choice(("send_after", "start_timer")),
                    "ms": random.choice((0, 100)),
                    "to": to,
                    "msg": "tick",
                }
            case "mail":
                return random.choice(
                    (
                        {"op": "receive", "after": random.choice((0, 100))},
                        {"op": "receive", "tag": "EXIT", "after": 50},
                        {"op": "flush"},
                    )
                )
        return random.choice((
            {"op": "exit_self", "reason": random.choice(REASONS), "class": random.choice(("exit", "error", "throw"))},
            {"op": "trap_exit", "value": random.random() < 0.5}, {"op": "sleep", "ms": 100}, {"op": "links_of", "to": "self"},
            {"op": "register", "name": random.choice(("n", *self.servers)), "to": who},
            {"op": "unregister", "name": random.choice(self.servers)},
        ))  # fmt: skip

    def watch(self, who: str) -> Json:
        random = self.random
        if self.refs and random.random() < 0.2:
            return {
                "op": "demonitor",
                "ref": random.choice(self.refs),
                "opts": random.choice(([], ["flush"], ["info"])),
            }
        if random.random() < 0.4:
            self.refs.append(f"m{len(self.refs)}")
            return {
                "op": "monitor",
                "to": random.choice((who, {"name": random.choice(self.servers)})),
                "as": self.refs[-1],
            }
        return {"op": random.choice(("link", "link", "unlink")), "to": who}

    def act(self, depth: int) -> Json:
        random = self.random
        reason = random.choice(REASONS)
        self.keys += 1
        acts: list[Json] = [
            ["noop"], ["reply", self.keys], ["stop", reason], ["stop_reply", reason, self.keys], ["error", "boom"], ["bad"],
            ["exit", reason],
            ["timeout", random.choice((0, 100))], ["defer", f"k{self.keys}"], ["answer", f"k{random.randint(1, self.keys)}", 4],
        ]  # fmt: skip
        if depth > 0:
            inner = [self.op(depth - 1) for _ in range(random.choice((1, 1, 2)))]
            then = self.act(depth - 1)
            acts += [["do", inner]] * 4 + [
                ["sleep", 100, then],
                ["continue", then],
                ["reply_then", 3, ["do", inner]],
                ["reply_then", 3, then],
            ]
        return random.choice(acts)
