"""Random scenarios for one state machine: events that postpone, insert, set and cancel timeouts, change and repeat states.

Times are far enough apart for a real clock: what is set fires in a step that settles, and in no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from .terms import Json

STATES = ("a", "b", "c")
TIMES = (0, 0, 120, 150, 180, 210, 240)
SETTLE_MS = 800  # three timeouts one after the other
REASONS: list[Json] = ["normal", "shutdown", {"t": ["shutdown", "x"]}, "boom"]


class Machines:
    """Makes scenarios of one seed."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.tags = 0

    def scenario(self) -> list[Json]:
        """Start it, send it events by turns, let time pass now and then."""
        random = self.random
        machine = self.machine("m")
        steps: list[Json] = [
            {"by": "driver", "do": [{"op": "spawn", "id": who} for who in ("p", "q", "r")]},
            {
                "by": "driver",
                "do": [{"op": "start_machine", "machine": machine}],
                "settle_ms": random.choice((0, SETTLE_MS)),
            },
        ]
        callers = ["p", "q", "r"]
        for _ in range(random.randint(3, 8)):
            steps.append(self.step(callers))
        steps.append({"by": "driver", "do": [{"op": "is_alive", "to": "m"}], "settle_ms": SETTLE_MS})
        return steps

    def machine(self, id: str) -> Json:
        """What a machine is started with."""
        random = self.random
        return {
            "id": id,
            "mode": random.choice(("state_functions", "handle_event_function")),
            "enter": random.random() < 0.5,
            "trap_exit": random.random() < 0.3,
            "init": [random.choice(STATES), self.actions(2, entering=True, call=False)],
            "enters": {
                state: [self.result(1, True, False) for _ in range(2)]
                for state in STATES
                if random.random() < 0.4
            },
        }

    def step(self, callers: list[str]) -> Json:
        """One or several events, as the machine would find them in its mailbox."""
        random = self.random
        step: Json = {"by": "driver", "do": []}
        if callers and random.random() < 0.4:
            step["by"] = callers.pop()
            step["do"].append({"op": "call", "to": "m", "act": self.content(0, True)})
        else:
            if random.random() < 0.1:
                step["do"].append({"op": random.choice(("suspend", "resume")), "to": "m"})
            for _ in range(random.choice((1, 1, 2, 3))):
                step["do"].append(
                    {"op": random.choice(("cast", "info")), "to": "m", "act": self.content(0, False)}
                )
            if random.random() < 0.05:
                step["do"].append(random.choice((
                    {"op": "exit", "to": "m", "reason": random.choice(REASONS)},
                    {"op": "send", "to": "m", "msg": "hello"},
                )))  # fmt: skip
        if random.random() < 0.4:
            step["settle_ms"] = SETTLE_MS
        return step

    def content(self, depth: int, call: bool) -> Json:
        """An event's content: its own tag, and what its first handlings return."""
        self.tags += 1
        tag = f"t{self.tags}"
        return {
            "tag": tag,
            "do": [self.result(depth, False, call) for _ in range(self.random.choice((1, 1, 2, 3)))],
        }

    def result(self, depth: int, entering: bool, call: bool) -> Json:
        random = self.random
        kind = random.choices(
            (
                "next_state",
                "same_state",
                "keep_state",
                "repeat_state",
                "stop",
                "stop_and_reply",
                "raise",
                "bad",
            ),
            (0 if entering else 8, 2, 8, 2 if entering else 3, 0.3, 0.3, 0.4, 0.1),
        )[0]
        match kind:
            case "next_state":
                return [kind, random.choice(STATES), self.actions(depth, entering, call)]
            case "stop":
                return [kind, random.choice(REASONS)]
            case "stop_and_reply":
                return [kind, random.choice(REASONS), self.actions(depth, entering, call)]
            case "raise":
                return [random.choice(("error", "exit", "throw")), random.choice(("boom", "normal"))]
            case "bad":
                return [kind]
        return [kind, self.actions(depth, entering, call)]

    def actions(self, depth: int, entering: bool, call: bool) -> list[Json]:
        return [self.action(depth, entering, call) for _ in range(self.random.choice((0, 0, 1, 1, 2, 3)))]

    def action(self, depth: int, entering: bool, call: bool) -> Json:
        random = self.random
        kinds = ["timeout", "state_timeout", "named", "cancel", "update", "hibernate", "reply", "reply"]
        if not entering:
            kinds += ["postpone"] * 4 + ["next_event"] * 3
        if random.random() < 0.01:
            kinds = ["bad"]
        kind = random.choice(kinds)
        if depth >= 2 and kind in ("timeout", "state_timeout", "named", "update", "next_event"):
            kind = "hibernate"
        ms = random.choice((*TIMES, "infinity"))
        match kind:
            case "timeout" | "state_timeout":
                return [kind, ms, self.content(depth + 1, False)]
            case "named":
                return [kind, random.choice(("n1", "n2")), ms, self.content(depth + 1, False)]
            case "cancel":
                return [kind, self.timeout()]
            case "update":
                return [kind, self.timeout(), self.content(depth + 1, False)]
            case "next_event":
                event = random.choice(
                    ("cast", "info", "internal", "timeout", "state_timeout", ["timeout", "n1"])
                )
                return [kind, event, self.content(depth + 1, False)]
            case "reply":
                keys = ["self"] * 3 if call else []
                return [
                    kind,
                    random.choice([*keys, *(f"t{n}" for n in range(1, self.tags + 1))] or ["t1"]),
                    random.randrange(9),
                ]
        return [kind]

    def timeout(self) -> Json:
        return self.random.choice(("timeout", "state_timeout", ["timeout", "n1"], ["timeout", "n2"]))


def machine_scenarios(count: int, seed: int = 0) -> Iterator[tuple[str, list[Json]]]:
    """`count` scenarios, `(name, steps)`; the same for the same seed."""
    for number in range(count):
        yield f"machine/{seed}/{number}", Machines(Random(f"machine/{seed}/{number}")).scenario()
