"""Turns among writing nodes: nobody waits in a circle, whoever hangs is passed over, and who is alone tells nobody."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from actors.ledger.turns import PATIENCE, QUIET, Turns


def test_who_is_alone_writes_at_once_and_tells_nobody() -> None:
    turns = Turns("a")
    assert not turns.want(0.0) and turns.wait(0.0) == 0
    turns.end("a")
    assert not turns.want(0.0)


def test_after_a_collision_wishes_are_told_for_a_while() -> None:
    turns = Turns("a")
    turns.want(0.0)
    turns.collided(1.0)
    turns.end("a")
    assert turns.want(1.0 + QUIET / 2)
    assert not turns.want(1.0 + QUIET / 2), "it is in line already"
    turns.end("a")
    assert not turns.want(1.0 + QUIET)


def test_a_node_waits_for_those_before_it_until_they_have_written() -> None:
    turns = Turns("a")
    turns.wished("b", 0.0)
    assert turns.want(0.0), "b is there: it must hear of this one"
    turns.wished("c", 0.0)
    assert turns.wait(0.0) == PATIENCE
    turns.end("b")
    assert turns.wait(0.0) == 0, "c came later"


def test_one_that_hangs_is_waited_for_once() -> None:
    turns = Turns("a")
    turns.wished("b", 0.0)
    turns.wished("c", 0.0)
    turns.want(0.0)
    assert turns.wait(0.0) == PATIENCE
    assert 0 < turns.wait(PATIENCE / 2) < PATIENCE
    assert turns.wait(PATIENCE) == PATIENCE, "c is the first only now"
    assert turns.wait(2 * PATIENCE) == 0


def test_a_second_wish_of_a_node_is_behind_the_others() -> None:
    turns = Turns("a")
    turns.wished("b", 0.0)
    turns.want(0.0)
    turns.wished("b", 0.0)
    assert turns.wait(0.0) == 0


def test_who_has_written_several_rows_is_expected_again_and_need_not_tell() -> None:
    turns = Turns("a")
    turns.wrote("b", True, 0.0)
    assert turns.want(0.0) and turns.wait(0.0) == PATIENCE, "b comes first"
    turns.wrote("b", False, 0.0)
    assert turns.wait(0.0) == 0
    turns.wrote("a", True, 0.0)
    assert not turns.want(0.0), "they have it in line"


def test_it_is_expected_for_a_while_only() -> None:
    turns = Turns("a")
    turns.wrote("b", True, 0.0)
    turns.wrote("a", True, 0.0)
    assert not turns.is_awaited(0.0) and not turns.is_awaited(QUIET)
    assert not turns.want(QUIET) and turns.wait(QUIET) == 0, "nobody is there, whom to tell"


def test_who_is_first_and_has_nothing_to_write_is_awaited_by_those_behind() -> None:
    turns = Turns("a")
    turns.wrote("a", True, 0.0)
    assert not turns.is_awaited(0.0), "by nobody"
    turns.wished("b", 0.0)
    assert turns.is_awaited(0.0)
    turns.wrote("a", True, 0.0)
    assert not turns.is_awaited(0.0), "b comes first"


NODES = "abc"


class Line:
    """Three nodes whose messages arrive late, in the order in which each sent them. Time stands, so patience never ends."""

    def __init__(self) -> None:
        self.turns = {node: Turns(node) for node in NODES}
        for one in self.turns.values():
            one.collided(0.0)  # all tell
        self.wanting: set[str] = set()
        self.told: set[str] = set()  # who is in line for the others
        self.wires = {(x, y): deque[str]() for x in NODES for y in NODES if x != y}

    def tell(self, node: str, what: str) -> None:
        for other in NODES:
            if other != node:
                self.wires[node, other].append(what)

    def want(self, node: str) -> None:
        if node not in self.wanting:
            self.wanting.add(node)
            tells = self.turns[node].want(0.0)
            assert tells is (node not in self.told)
            if tells:
                self.tell(node, "wish")
                self.told.add(node)

    def deliver(self, source: str, target: str) -> None:
        wire = self.wires[source, target]
        if wire:
            match wire.popleft():
                case "wish":
                    self.turns[target].wished(source, 0.0)
                case "end":
                    self.turns[target].end(source)
                case what:
                    self.turns[target].wrote(source, what == "again", 0.0)

    def deliver_all(self) -> None:
        for source, target in self.wires:
            while self.wires[source, target]:
                self.deliver(source, target)

    def may_write(self) -> list[str]:
        return [node for node in NODES if node in self.wanting and self.turns[node].wait(0.0) == 0]

    def write(self, node: str, again: bool = False) -> None:
        if node in self.may_write():
            self.wanting.discard(node)
            self.turns[node].wrote(node, again, 0.0)
            self.tell(node, "again" if again else "wrote")
            (self.told.add if again else self.told.discard)(node)

    def write_more(self, node: str) -> None:
        self.write(node, again=True)

    def decline(self, node: str) -> None:
        if node not in self.wanting and self.turns[node].is_awaited(0.0):
            self.turns[node].end(node)
            self.tell(node, "end")
            self.told.discard(node)


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["want", "write", "write_more", "decline"]), st.sampled_from(NODES)),
        st.tuples(st.just("deliver"), st.sampled_from(NODES), st.sampled_from(NODES)).filter(
            lambda step: step[1] != step[2]
        ),
    ),
    max_size=60,
)


@given(steps)
def test_nobody_waits_in_a_circle(made: list[tuple[str, ...]]) -> None:
    line = Line()
    for what, *nodes in made:
        getattr(line, what)(*nodes)
    line.deliver_all()
    for _ in range(2 * len(NODES)):
        for node in NODES:
            line.decline(node)
        line.deliver_all()
        if writers := line.may_write():
            line.write(writers[0])
            line.deliver_all()
    assert not line.wanting, "all that was told has arrived, and somebody waits"


def test_with_messages_that_arrive_one_at_a_time_writes() -> None:
    line = Line()
    for node in NODES:
        line.want(node)
        line.deliver_all()
    order = []
    for _ in range(2 * len(NODES)):
        (writer,) = line.may_write()
        order.append(writer)
        line.write(writer, again=True)
        line.want(writer)
        line.deliver_all()
    assert order == [*NODES, *NODES]
    assert len(line.told) == len(NODES)
