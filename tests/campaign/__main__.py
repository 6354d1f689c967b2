"""`python -m tests.campaign --seed N --minutes M [--nodes 3]`: faults by the seed, clients meanwhile, and the checker's verdict.

Exit code 1 if anything acknowledged was lost, doubled or skipped, if a subscriber missed an event, if a server ended by
itself, if one could not write within 10 seconds after a fault, or if nodes saw wrongly 15 seconds later who is there.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import random
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaign.checker import SHOWN, Findings, check
from tests.campaign.clients import Log, OtherProgram, Poster
from tests.campaign.faults import FAULTS, OF_NODES
from tests.campaign.subscribers import LongPollSubscriber, Subscriber, WebSocketSubscriber
from tests.campaign.world import DATABASE_ERRORS, World, world

DATABASE_SECONDS = 60.0  # until the database itself commits, with its standby's confirmation
HEALTHY_SECONDS = 10.0  # after that, every server can write
FAILOVER_SECONDS = 15.0  # the same, after a failover
PRESENCE_SECONDS = 15.0
REST_SECONDS = 30.0  # for the last events to arrive
SETTLE_SECONDS = 60.0  # for the last answers
DONE_SECONDS = 180.0  # for a fault to be done and undone
END_SECONDS = 600.0  # for all that comes beside the faults, the servers' start and the checker with it
GRACE_SECONDS = 60.0  # after that
FAULT_SECONDS = (0.2, 4.0)
CALM_SECONDS = (0.1, 1.0)
TOGETHER = (1, 1, 1, 2, 2, 3)  # faults at a time
PEOPLE, POSTERS = 4, 8


@dataclass
class Course:
    """What was done to the servers, and how they took it. Worst times in seconds."""

    faults: Counter[str] = field(default_factory=Counter)
    worst: float = 0.0
    worst_failover: float = 0.0
    worst_presence: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """For people."""
        return (
            f"faults: {dict(sorted(self.faults.items()))}; worst time to health {self.worst:.1f} s, "
            f"after a failover {self.worst_failover:.1f} s, to presence {self.worst_presence:.1f} s"
        )


def subscribers_of(made: World, rng: random.Random) -> list[Subscriber]:
    """For each person: two that resume over links that may fail, two that do not."""
    found: list[Subscriber] = []
    for person in made.people:
        for kind in (WebSocketSubscriber, LongPollSubscriber):
            found.append(kind(person, made.doors, random.Random(rng.random()), resumes=True))
            found.append(kind(person, lambda: made.urls, random.Random(rng.random()), resumes=False))
    for subscriber in found:
        if isinstance(subscriber, LongPollSubscriber):
            subscriber.roams = made.nats is not None
    return found


async def campaign(seed: int, minutes: float, nodes: int = 0, patience: float = 1.0) -> Findings:
    """One campaign; prints what happens and returns what the checker found. `patience`: times the seconds that are allowed."""
    rng = random.Random(seed)
    log, course, running = Log(), Course(), True
    async with world(PEOPLE, nodes) as made:
        subscribers = subscribers_of(made, rng)
        posters = [
            Poster(
                made.people[number % PEOPLE], made.doors, log, random.Random(rng.random()), number * 1_000_000
            )
            for number in range(POSTERS)
        ]
        others = [
            OtherProgram(person, lambda: made.database, log, random.Random(rng.random()))
            for person in made.people
        ]
        listening = [asyncio.create_task(subscriber.run()) for subscriber in subscribers]
        posting = [asyncio.create_task(poster.run(lambda: running)) for poster in (*posters, *others)]
        await _afflict(made, rng, minutes * 60, patience, course)
        running = False
        _, unanswered = await asyncio.wait(posting, timeout=patience * SETTLE_SECONDS)
        if unanswered:
            course.wrong.append(
                f"{len(unanswered)} clients had no answer {SETTLE_SECONDS:.0f} s after the last fault"
            )
        await _until_told(subscribers, made)
        for task in (*listening, *posting):
            task.cancel()
        try:
            findings = await check(made.database, log, subscribers, course.faults.total())
        except DATABASE_ERRORS as error:  # what led to it is in course.wrong
            findings = Findings(wrong=[f"the database can't be read: {error!r}"])
        if findings.missed:
            course.wrong += [f"log of {site.name}: {line}" for site in made.sites for line in _tail(site)]
    findings.wrong += course.wrong
    print(course.line)
    print(f"answers: {dict(sorted(log.answers.items()))}")
    return findings


def _tail(site: object) -> list[str]:
    server = getattr(site, "server", None)
    return [] if server is None else server.lines[-10:]


def _last(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-10:]


async def _afflict(made: World, rng: random.Random, seconds: float, patience: float, course: Course) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    known = FAULTS | (OF_NODES if made.nats is not None else {})
    names, weights = list(known), [weight for _, weight in known.values()]
    while loop.time() < end and not course.wrong:
        chosen = sorted(set(rng.choices(names, weights, k=rng.choice(TOGETHER))))
        happening = [
            asyncio.wait_for(known[name][0](made, rng, rng.uniform(*FAULT_SECONDS)), patience * DONE_SECONDS)
            for name in chosen
        ]
        for outcome in await asyncio.gather(*happening, return_exceptions=True):
            if isinstance(outcome, BaseException):
                course.wrong.append(f"{chosen}: {outcome!r}")
        course.faults.update(chosen)
        await judge(made, chosen, patience, course)
        for repair in made.repairs:
            await asyncio.wait_for(repair(), patience * DONE_SECONDS)
        made.repairs.clear()
        await asyncio.sleep(rng.uniform(*CALM_SECONDS))


async def judge(made: World, chosen: list[str], patience: float, course: Course) -> None:
    """What the servers are like after these faults."""
    if not await made.commits_within(patience * DATABASE_SECONDS):
        course.wrong.append(f"the database did not commit {patience * DATABASE_SECONDS:.0f} s after {chosen}")
        course.wrong += [
            f"log of {each.folder.name}: {line}" for each in made.pair for line in _last(each.log)
        ]
        return
    allowed = patience * (FAILOVER_SECONDS if "failover" in chosen else HEALTHY_SECONDS)
    took = await made.healthy_within(allowed)
    print(
        f"{' + '.join(chosen)}: {'not healthy' if took is None else f'healthy after {took:.1f} s'}",
        flush=True,
    )
    course.wrong += [f"a server ended by itself after {chosen}: {line}" for line in made.ended()]
    if took is None:
        course.wrong.append(f"not healthy {allowed:.0f} s after {chosen}")
        course.wrong += [f"log of {site.name}: {line}" for site in made.sites for line in _tail(site)]
        return
    if "failover" in chosen:
        course.worst_failover = max(course.worst_failover, took)
    else:
        course.worst = max(course.worst, took)
    if made.nats is not None:
        seen = await made.presence_within(patience * PRESENCE_SECONDS, made.sites)
        if seen is None:
            course.wrong.append(f"presence is wrong {patience * PRESENCE_SECONDS:.0f} s after {chosen}")
        else:
            course.worst_presence = max(course.worst_presence, took + seen)


async def _until_told(subscribers: list[Subscriber], made: World) -> None:
    """Until rows of others have their entries and subscribers have what there is, or there was time enough for it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + REST_SECONDS
    while loop.time() < end:
        with suppress(*DATABASE_ERRORS):
            found = await check(made.database, Log(), subscribers, 0)
            if not found.missed and not found.gaps:
                return
        await asyncio.sleep(0.5)


async def _bounded(seed: int, minutes: float, nodes: int) -> Findings:
    """A campaign that is given up `END_SECONDS` after its last fault; what then still waits is printed."""
    task = asyncio.create_task(campaign(seed, minutes, nodes))
    done, _ = await asyncio.wait([task], timeout=minutes * 60 + END_SECONDS)
    if done:
        return task.result()
    for each in asyncio.all_tasks():
        each.print_stack()
    task.cancel()
    await asyncio.wait([task], timeout=GRACE_SECONDS / 2)
    raise TimeoutError


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign", description="Crash campaign with a checker of its own."
    )
    parser.add_argument("--seed", type=int, default=1, help="the faults and their order follow from it")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults happen")
    parser.add_argument(
        "--nodes", type=int, default=0, help="so many servers as nodes of one cluster over NATS"
    )
    options = parser.parse_args()
    # Whatever hangs, the run ends, and says where: its own tasks first, then the threads.
    faulthandler.dump_traceback_later(options.minutes * 60 + END_SECONDS + GRACE_SECONDS, exit=True)
    try:
        findings = asyncio.run(_bounded(options.seed, options.minutes, options.nodes))
    except TimeoutError:
        print("wrong: the campaign did not come to its end")
        return 1
    for line in findings.wrong[:SHOWN]:
        print(f"wrong: {line}")
    print(findings.line)
    return 0 if findings.sound else 1


if __name__ == "__main__":
    sys.exit(main())
