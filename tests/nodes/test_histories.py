"""Random histories of five nodes: no link loses silently, pg, global and trackers agree in the end; and what explore says."""

from __future__ import annotations

from random import Random

import pytest

from runtime.testing.cluster_histories import ClusterHistory, Event, events_of, explore, play, shortest
from tests.nodes.histories import Members, Trackers


@pytest.mark.parametrize(("kind", "histories"), [(Members, 60), (Trackers, 12)])
def test_no_invariant_breaks(kind: type[ClusterHistory], histories: int) -> None:
    assert len(set(explore(kind, histories))) == histories


@pytest.mark.parametrize("kind", [Members, Trackers])
def test_one_seed_sends_the_same_frames_byte_for_byte(kind: type[ClusterHistory]) -> None:
    assert explore(kind, 4) == explore(kind, 4)


def test_messages_do_arrive() -> None:
    assert sum(len(play(Members, seed, events_of(Members, seed))[1]) for seed in range(10)) > 30


class Fragile(ClusterHistory):
    """Cannot bear that b crashes and comes back, and a is cut from c later."""

    nodes = ("a", "b", "c")

    def __init__(self, seed: int) -> None:
        self.seen: list[Event] = []
        super().__init__(seed)

    @classmethod
    def choose(cls, random: Random) -> Event:
        event = super().choose(random)
        return ("cut", "a", "c") if event[0] == "cut" else event

    def perform(self, event: Event) -> None:
        super().perform(event)
        self.seen.append(event)

    def check(self) -> None:
        wanted: list[Event] = [("crash", "b"), ("start", "b"), ("cut", "a", "c")]
        for event in self.seen:
            if event == wanted[0]:
                wanted.pop(0)
            assert wanted, "all three happened"


def test_explore_prints_the_seed_and_the_shortest_history(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError) as caught:
        explore(Fragile, 200)
    said = capsys.readouterr().out
    history = "[\n    ('crash', 'b'),\n    ('start', 'b'),\n    ('cut', 'a', 'c'),\n]"
    assert "Fragile fails with seed " in said and said.rstrip().endswith(history)
    assert any(history in note for note in caught.value.__notes__)
    seed = int(said.partition("seed ")[2].partition(";")[0])
    with pytest.raises(AssertionError, match="all three"):
        play(Fragile, seed, events_of(Fragile, seed))
    explore(Fragile, seeds=range(seed))


def test_a_history_that_does_not_fail_is_not_made_shorter() -> None:
    events: list[Event] = [("crash", "b"), ("wait", 10)]
    assert shortest(Fragile, 0, events) == events
