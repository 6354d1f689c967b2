"""Generated scenarios: recorded ones with a few random edits, the same for the same seed.

An edit takes what it puts in from other scenarios (ops, and the values that a field has anywhere) and names the processes
of the one it edits. What comes out is a scenario that makes sense to every runtime, if seldom to its reader.
"""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Iterator
from random import Random

from .terms import Json

WHO = frozenset({"to", "sup", "by"})
KEPT = frozenset({"op", "id", "kind", "children", "steps", "do", "tree", "worker", "settle_ms"})
LONGEST = 40  # steps; a scenario of a scenario grows no further
RESUMES = frozenset({"mode", "return", "exit_self"})  # nothing may follow it in a step
REASONS: list[Json] = [
    "normal",
    "shutdown",
    {"t": ["shutdown", "x"]},
    "kill",
    "killed",
    "noproc",
    "boom",
    "timeout",
]


class Pool:
    """What the recorded scenarios are made of."""

    def __init__(self, scenarios: list[list[Json]]) -> None:
        self.scenarios = scenarios
        self.ops: dict[str, list[Json]] = defaultdict(list)
        self.values: dict[tuple[str, str], list[Json]] = defaultdict(list)
        for steps in scenarios:
            for step in steps:
                for op in step["do"]:
                    self.ops[op["op"]].append(op)
            for owner, record in records(steps):
                for field, value in record.items():
                    if field not in KEPT and field not in WHO:
                        known = self.values[owner, field]
                        if value not in known:
                            known.append(value)
        for (_, field), known in self.values.items():
            if field == "reason":
                known.extend(reason for reason in REASONS if reason not in known)

    def fields(self, owner: str) -> list[str]:
        """The fields that such a record may have."""
        return sorted(field for kind, field in self.values if kind == owner)


def records(steps: Json) -> Iterator[tuple[str, dict[str, Json]]]:
    """Every op and every description of a process in it, each with what it is called: the op's name, `sup` or `worker`."""
    if isinstance(steps, list):
        for item in steps:
            yield from records(item)
    elif isinstance(steps, dict):
        if "op" in steps:
            yield steps["op"], steps
        elif "children" in steps:
            yield "sup", steps
        elif "id" in steps:
            yield "worker", steps
        for value in steps.values():
            yield from records(value)


def names_of(steps: list[Json]) -> dict[str, list[Json]]:
    """Who is in a scenario: `sup`, `worker`, `plain` ids, `ref`s and registered `name`s."""
    found: dict[str, list[Json]] = {"sup": [], "worker": [], "plain": ["driver"], "ref": [], "name": []}
    for owner, record in records(steps):
        if owner in ("sup", "worker"):
            found[owner].append(record["id"])
        elif owner == "spawn":
            found["plain"].append(record["id"])
        elif owner == "register":
            found["name"].append(record["name"])
        if "as" in record:
            found["ref"].append(record["as"])
    return {kind: [name for name in names if isinstance(name, str)] for kind, names in found.items()}


class Mutation:
    """One scenario under edit."""

    def __init__(self, pool: Pool, steps: list[Json], random: Random) -> None:
        self.pool = pool
        self.random = random
        self.steps = copy.deepcopy(steps)
        self.names = names_of(steps)

    def edit(self) -> None:
        """One random edit."""
        self.random.choice(
            (self.drop, self.swap, self.insert, self.insert, self.field, self.field, self.field, self.who)
        )()

    def drop(self) -> None:
        """Takes away a step, never the first: it makes the processes."""
        if len(self.steps) > 2:
            del self.steps[self.random.randrange(1, len(self.steps))]

    def swap(self) -> None:
        """Two steps change places."""
        if len(self.steps) > 2:
            a, b = (self.random.randrange(1, len(self.steps)) for _ in range(2))
            self.steps[a], self.steps[b] = self.steps[b], self.steps[a]

    def insert(self) -> None:
        """An op of another scenario, for the processes of this one."""
        if len(self.steps) >= LONGEST:
            return
        name = self.random.choice(sorted(self.pool.ops))
        op = copy.deepcopy(self.random.choice(self.pool.ops[name]))
        for _, record in records(op):
            self._name(record)
        at = self.random.randrange(1, len(self.steps) + 1)
        actor = self.random.choice(self.names["plain"]) if self.random.random() < 0.5 else "driver"
        self.steps.insert(at, {"by": actor, "do": [op], "settle_ms": 800} if name in ("sleep", "send_after", "start_timer")
                          else {"by": actor, "do": [op]})  # fmt: skip

    def field(self) -> None:
        """Another value for a field, or for one that was left out."""
        found = list(records(self.steps))
        owner, record = self.random.choice(found)
        fields = self.pool.fields(owner)
        if not fields:
            return
        field = self.random.choice(fields)
        record[field] = copy.deepcopy(self.random.choice(self.pool.values[owner, field]))
        for _, inner in records(record[field]):
            self._name(inner)
        self._terms(record)

    def who(self) -> None:
        """Somebody else does it, or it is done to somebody else."""
        found = [record for _, record in records(self.steps) if WHO & record.keys()]
        found += self.steps
        self._name(self.random.choice(found))

    def _name(self, record: dict[str, Json]) -> None:
        """Puts names of this scenario where a record says who."""
        random, names = self.random, self.names
        processes = names["sup"] + names["worker"] + names["plain"]
        for field in sorted(WHO & record.keys()):
            if field == "sup":
                record[field] = random.choice(names["sup"] or processes)
            elif field == "by":
                record[field] = random.choice(names["plain"] + names["worker"])
            elif isinstance(record[field], dict):
                record[field] = {
                    "name": random.choice(names["sup"] + names["worker"] + names["name"] or ["nobody"])
                }
            elif record[field] != "self":
                workers = record.get("op") in ("call", "cast", "info") and random.random() < 0.8
                record[field] = random.choice((names["worker"] if workers else None) or processes)
        if record.get("op") in ("spawn", "start_child", "start_tree", "start_worker"):
            for _, inner in records(record):
                if isinstance(inner.get("id"), str) and random.random() < 0.5:
                    inner["id"] += "x"
        if "ref" in record and names["ref"]:
            record["ref"] = random.choice(names["ref"])
        self._terms(record)

    def _terms(self, record: dict[str, Json]) -> None:
        """Terms that name processes or references of another scenario name some of this one."""

        def renamed(value: Json) -> Json:
            match value:
                case list():
                    return [renamed(item) for item in value]
                case {"pid": _}:
                    known = self.names["sup"] + self.names["worker"] + self.names["plain"]
                    return (
                        value if value["pid"].split("#")[0] in known else {"pid": self.random.choice(known)}
                    )
                case {"ref": _}:
                    return value if value["ref"] in self.names["ref"] else "noref"
                case dict() if "op" not in value:
                    return {key: renamed(item) for key, item in value.items()}
            return value

        for field in ("reason", "msg", "match", "act", "child"):
            if field in record and not (
                field == "child" and isinstance(record[field], dict) and "id" in record[field]
            ):
                record[field] = renamed(record[field])

    def result(self) -> list[Json]:
        """The steps, in which nothing follows what ends one, and nobody sets a clock by less than the settle times allow."""
        for step in self.steps:
            for at, op in enumerate(step["do"]):
                if op["op"] in RESUMES:
                    del step["do"][at + 1 :]
                    break
        return self.steps


def mutations(pool: Pool, count: int, seed: int = 0) -> Iterator[tuple[str, list[Json]]]:
    """`count` mutated scenarios, `(name, steps)`, no two the same."""
    seen: set[str] = set()
    number = 0
    while len(seen) < count:
        random = Random(f"{seed}/{number}")
        number += 1
        mutation = Mutation(pool, random.choice(pool.scenarios), random)
        for _ in range(random.randint(1, 4)):
            mutation.edit()
        steps = mutation.result()
        text = json.dumps(steps, sort_keys=True)
        if text not in seen:
            seen.add(text)
            yield f"mutated/{seed}/{number - 1}", steps
