"""One scenario, one fresh engine: replays the steps under a seed and returns what happened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from runtime.core.pid import Pid
from runtime.otp import erlang
from runtime.testing.deterministic_engine import DeterministicEngine

from .operations import Operations, Steps
from .processes import Processes
from .terms import Json, Names


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario file: what to do, and what OTP did."""

    name: str
    steps: list[Json]
    trace: list[list[Json]]
    order: list[Json]
    alive: list[str]

    @classmethod
    def load(cls, path: Path) -> Scenario:
        """Reads a scenario file. Raises KeyError or ValueError if it is none."""
        content = json.loads(path.read_text())
        return cls(content["name"], content["steps"], content["trace"], content["order"], content["alive"])


OVERTAKING = 0.1  # of a scheduler's choices, under seeds other than 0


class RunQueue(Random):
    """A scheduler's choices as OTP's run queues make them: first come, first served, at times an overtaking.

    What OTP's recordings have in common includes what its fairness forces: who waited long has run.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.overtaking = seed != 0

    def randrange(self, start: int, *rest: Any) -> int:
        """Which of `start` runnable processes goes next, the oldest being 0."""
        return 1 if self.overtaking and self.random() < OVERTAKING else 0


def replay(steps: list[Json], seed: int, preempt: bool = False) -> tuple[list[list[Json]], list[str]]:
    """Performs the steps under the seed's schedule: the trace (events per step), and who lives at the end.

    With `preempt` a process may be interrupted between the ops of a step, as OTP may do but hardly ever does.
    """
    engine = DeterministicEngine(seed)
    engine.random = RunQueue(seed)
    names = Names()
    operations = Operations(names, Random(seed) if preempt else None)
    processes = Processes(operations)

    def down(pid: Pid, reason: object) -> None:
        if pid in names.labels:
            operations.events.append(["down", names.labels[pid], names.encode(reason)])

    engine.on_exit.append(down)
    names.add("driver", engine.spawn(processes.plain, "auto", trap_exit=True))
    engine.run()
    trace: list[list[Json]] = []
    try:
        for step in steps:
            operations.events = []
            by = step.get("by", "driver")
            actor = names.find(by)
            if actor is None or not erlang.is_process_alive(actor):
                operations.events.append(["skip", by])
            else:
                erlang.send(actor, Steps(step["do"]))
            engine.advance(step.get("settle_ms", 0))
            trace.append(operations.events)
        alive = sorted(label for label, pid in names.pids.items() if erlang.is_process_alive(pid))
    finally:
        engine.on_exit.remove(down)
        engine.close()
    return trace, alive
