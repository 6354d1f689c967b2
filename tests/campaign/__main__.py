"""`python -m tests.campaign --seed N --minutes M`: faults by the seed, clients meanwhile, and the checker's verdict.

Exit code 1 if anything acknowledged was lost, doubled or skipped, if a server ended by itself, or if one could not write within
10 seconds after a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections import Counter
from dataclasses import dataclass, field

from tests.campaign.checker import SHOWN, Findings, check
from tests.campaign.clients import Log, Poster, Subscriber
from tests.campaign.faults import FAULTS
from tests.campaign.world import World, world

HEALTHY_SECONDS = 10.0
REST_SECONDS = 20.0  # for the last events to arrive
FAULT_SECONDS = (0.2, 4.0)
CALM_SECONDS = (0.1, 1.0)
PEOPLE, POSTERS, SUBSCRIBERS = 4, 8, 8


@dataclass
class Course:
    """What was done to the servers, and how they took it."""

    faults: Counter[str] = field(default_factory=Counter)
    worst: float = 0.0
    wrong: list[str] = field(default_factory=list)


async def campaign(seed: int, minutes: float, patience: float = HEALTHY_SECONDS) -> Findings:
    """One campaign; prints what happens and returns what the checker found. `patience`: seconds to be healthy after a fault."""
    rng = random.Random(seed)
    log, course, running = Log(), Course(), True
    async with world(PEOPLE) as made:
        people = made.people
        subscribers = [Subscriber(people[i % PEOPLE], made.urls, rng) for i in range(SUBSCRIBERS)]
        posters = [
            Poster(people[i % PEOPLE], made.urls, log, random.Random(rng.random())) for i in range(POSTERS)
        ]
        for number, poster in enumerate(posters):
            poster.count = number * 1_000_000  # a description says whose it is, and which
        listening = [asyncio.create_task(subscriber.run()) for subscriber in subscribers]
        posting = [asyncio.create_task(poster.run(lambda: running)) for poster in posters]
        await _afflict(made, rng, minutes * 60, patience, course)
        running = False
        await asyncio.gather(*posting)
        await _until_told(subscribers, made)
        for task in listening:
            task.cancel()
        findings = await check(made.database, log, subscribers, course.faults.total())
    findings.wrong += course.wrong
    print(f"faults: {dict(sorted(course.faults.items()))}; worst time to health {course.worst:.1f} s")
    print(f"answers: {dict(sorted(log.answers.items()))}")
    return findings


async def _afflict(made: World, rng: random.Random, seconds: float, patience: float, course: Course) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    names, weights = list(FAULTS), [weight for _, weight in FAULTS.values()]
    while loop.time() < end and not course.wrong:
        chosen = rng.choices(names, weights, k=rng.choice((1, 1, 1, 2)))  # and their combinations
        await asyncio.gather(*(FAULTS[name][0](made, rng, rng.uniform(*FAULT_SECONDS)) for name in chosen))
        course.faults.update(chosen)
        took = await made.healthy_within(patience)
        course.wrong += [f"a server ended by itself after {chosen}: {line}" for line in made.ended()]
        if took is None:
            course.wrong.append(f"not healthy {patience:.0f} s after {chosen}")
        else:
            course.worst = max(course.worst, took)
        await asyncio.sleep(rng.uniform(*CALM_SECONDS))


async def _until_told(subscribers: list[Subscriber], made: World) -> None:
    """Until the subscribers have what there is, or have had the time for it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + REST_SECONDS
    while loop.time() < end:
        found = await check(made.database, Log(), subscribers, 0)
        if not found.missed:
            return
        await asyncio.sleep(0.5)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign", description="Crash campaign with a checker of its own."
    )
    parser.add_argument("--seed", type=int, default=1, help="the faults and their order follow from it")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults happen")
    options = parser.parse_args()
    findings = asyncio.run(campaign(options.seed, options.minutes))
    for line in findings.wrong[:SHOWN]:
        print(f"wrong: {line}")
    print(findings.line)
    return 0 if findings.sound else 1


if __name__ == "__main__":
    sys.exit(main())
