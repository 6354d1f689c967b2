"""Random histories of a cluster: events chosen by a seed, invariants checked at the end, failing histories shrunk.

    class Groups(ClusterHistory):
        nodes = ("a", "b", "c")

        def prepare(self, member): ...              # starts the processes of a node's incarnation
        @classmethod
        def choose(cls, random): ...                # an event of its own, or super().choose(random)
        def perform(self, event): ...
        def check(self): ...                        # after all faults are healed and all nodes are connected

    explore(Groups, histories=1_000)    # prints a failing seed and its shrunk history

An event is a tuple, chosen without regard to the state of the cluster; an event that cannot happen is skipped. So any subsequence
of a history is a history, and a failing one can be shrunk by removing events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, ClassVar, Final

from runtime.testing.cluster import Cluster, ClusterMember

Event = tuple[Any, ...]
STEPS: Final = 40
MAX_RUNS: Final = 300
CALM_MS: Final = 200_000  # longer than any failure detection timeout


class ClusterHistory:
    """A history under one seed. This class has the events of the network and of nodes."""

    nodes: ClassVar[Sequence[str]] = ("a", "b", "c", "d", "e")
    waits: ClassVar[Sequence[int]] = (10, 1_000, 20_000, 90_000)  # milliseconds
    fewest: ClassVar[int] = 2  # nodes that are always alive

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.log: list[Any] = []  # for the processes of a subclass
        self.cluster = Cluster(seed, self.nodes, on_start=self.prepare)

    # ---- for subclasses

    def prepare(self, member: ClusterMember) -> None:
        """Called for each incarnation of a node."""

    @classmethod
    def choose(cls, random: Random) -> Event:
        """Chooses an event."""
        one, other = random.sample(cls.nodes, 2)
        match random.choice(
            (
                "cut",
                "heal",
                "silence",
                "loss",
                "delay",
                "connect",
                "connect",
                "crash",
                "start",
                "wait",
                "wait",
            )
        ):
            case "loss":
                return "loss", one, other, random.choice((0.0, 0.2))
            case "delay":
                return "delay", one, other, random.choice((0, 5, 2_000))
            case "silence":
                return "silence", one, other, random.random() < 0.5
            case "crash" | "start" as what:
                return what, one
            case "wait":
                return "wait", random.choice(cls.waits)
            case what:
                return what, one, other

    def perform(self, event: Event) -> None:
        """Performs an event. Time passes only in a `wait`."""
        cluster, living = self.cluster, self.cluster.members
        match event:
            case ("cut", one, other):
                cluster.partition(one, other)
            case ("heal", one, other):
                cluster.heal(one, other)
            case ("silence", one, other, silent):  # one direction, without a disconnect
                cluster.network.path(one, other).silent = silent
            case ("loss", one, other, part):
                cluster.network.path(one, other).loss = part
            case ("delay", one, other, most_ms):
                cluster.network.path(one, other).delay = (0.0, most_ms / 1000)
            case ("connect", one, other) if one in living:
                living[one].node.connect(other)
            case ("crash", one) if one in living and len(living) > self.fewest:
                cluster.crash(one)
            case ("start", one) if one not in living:
                cluster.start(one)
            case ("wait", ms):
                cluster.advance(ms)
        cluster.run()

    def check(self) -> None:
        """Checks the invariants after `calm`. Raises AssertionError."""

    # ---- healing

    def calm(self) -> None:
        """Heals all faults, starts all nodes, connects them and lets time pass."""
        cluster = self.cluster
        for one in self.nodes:
            if one not in cluster.members:
                cluster.start(one)
            for other in self.nodes:
                cluster.heal(one, other)
                path = cluster.network.path(one, other)
                path.silent, path.loss, path.delay = False, 0.0, (0.0, 0.0)
        for _ in range(2):
            cluster.advance(CALM_MS)
            self.connect_all()

    def connect_all(self) -> None:
        """Connects every pair of nodes."""
        for one in self.nodes:
            for other in self.nodes:
                if one != other and one in self.cluster.members:
                    self.cluster[one].node.connect(other)
        self.cluster.run()


def events_of(history: type[ClusterHistory], seed: int, steps: int = STEPS) -> list[Event]:
    """The events of a seed."""
    random = Random(seed)
    return [history.choose(random) for _ in range(steps)]


def play(history: type[ClusterHistory], seed: int, events: Iterable[Event]) -> tuple[str, list[Any]]:
    """Performs events, then calms and checks the cluster. Returns a digest of all frames, and the log.

    Raises what `check` or an event raises.
    """
    played = history(seed)
    with played.cluster as cluster:
        played.connect_all()
        for event in events:
            played.perform(event)
        played.calm()
        played.check()
        return cluster.network.digest(), played.log


def shortest(
    history: type[ClusterHistory], seed: int, events: Sequence[Event], max_runs: int = MAX_RUNS
) -> list[Event]:
    """The fewest events found that fail with the same type of error; all of them if they do not fail."""
    kind = type(_failure(history, seed, events))
    left = list(events)
    size = max(1, len(left) // 2)
    while kind is not type(None):
        begin = 0
        while begin < len(left) and max_runs > 0:
            trial = left[:begin] + left[begin + size :]
            max_runs -= 1
            if type(_failure(history, seed, trial)) is kind:
                left = trial
            else:
                begin += size
        if size == 1 or max_runs <= 0:
            break
        size //= 2
    return left


def _failure(history: type[ClusterHistory], seed: int, events: Sequence[Event]) -> Exception | None:
    try:
        play(history, seed, events)
    except Exception as error:
        return error
    return None


def explore(
    history: type[ClusterHistory],
    histories: int = 100,
    seeds: Iterable[int] | None = None,
    steps: int = STEPS,
) -> list[str]:
    """Plays the histories of many seeds and returns their digests.

    If one fails, its seed and shrunk history are printed and added to the exception. `play(history, seed, events)` repeats it.
    """
    digests: list[str] = []
    for seed in range(histories) if seeds is None else seeds:
        events = events_of(history, seed, steps)
        try:
            digests.append(play(history, seed, events)[0])
        except Exception as error:
            lines = "\n".join(f"    {event!r}," for event in shortest(history, seed, events))
            text = f"{history.__name__} fails with seed {seed}; the shortest history:\n[\n{lines}\n]"
            print(f"explore: {text}")
            error.add_note(text)
            raise
    return digests
