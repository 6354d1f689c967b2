"""The codec gives back what it was given; a link loses nothing without going down, doubles nothing, keeps the order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.core.exits import Error, Stack
from runtime.nodes import codec as codecs
from runtime.nodes import link as links
from runtime.nodes.codec import RemoteError, UnregisteredRecord, register
from runtime.nodes.link import Deliver, Link, LinkDown, LinkUp, Send
from runtime.testing.cluster import Cluster

TEXTS = st.text(alphabet=st.characters(exclude_categories=("Cs",)))
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(fold=0))
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | st.binary() | st.uuids() | st.dates()
    | st.decimals(allow_nan=False) | MOMENTS
)  # fmt: skip
KEYS = st.recursive(
    SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=3
)
TERMS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@register
@dataclass(frozen=True, slots=True)
class Letter:
    text: str
    to: Any


@dataclass(frozen=True, slots=True)
class Later:
    """Of a release that only one of two nodes runs."""

    text: str
    number: int


register(Later, "Later")


@dataclass(frozen=True, slots=True)
class Stranger:
    text: str


@settings(max_examples=150, deadline=None)
@given(TERMS)
def test_what_goes_in_comes_out(term: Any) -> None:
    with Cluster(0, ["a"]) as cluster:
        codec = cluster["a"].node.codec
        back = codec.decode(codec.encode(term))
        assert back == term and type(back) is type(term)


def test_types_of_ours_and_of_others() -> None:
    with Cluster(0, ["a"]) as cluster:
        codec = cluster["a"].node.codec
        for term in (
            {
                ("a", frozenset({1})): [
                    Decimal("1.20"),
                    UUID(int=5),
                    date(2026, 1, 2),
                    datetime(2026, 1, 2, tzinfo=UTC),
                ]
            },
            Letter("x", (1, {2})),
        ):
            assert codec.decode(codec.encode(term)) == term
        error = codec.decode(codec.encode(ValueError("no")))
        assert isinstance(error, RemoteError) and str(error) == "ValueError: no"
        assert isinstance(codec.decode(codec.encode(Stack(None))), Stack)
        for unknown in (Stranger("x"), object(), lambda: None, [Stranger("x")], {1: Stranger("x")}):
            with pytest.raises(TypeError, match="cannot be sent to another node"):
                codec.encode(unknown)
        with pytest.raises(TypeError, match="neither a frozen dataclass"):
            register(dict)


def test_what_the_other_node_does_not_know_is_a_term_there() -> None:
    with Cluster(0, ["a", "b"]) as cluster:
        old, new = cluster["a"].node, cluster["b"].node
        new.export("only there", test_what_goes_in_comes_out)
        message = ("to", Later("x", 2), test_what_goes_in_comes_out)
        data = new.codec.encode(message)
        later = codecs._classes.pop("Later")
        try:
            name, record, function = old.codec.decode(data)
            assert (name, record) == ("to", UnregisteredRecord("Later", ("x", 2)))
            with pytest.raises(Error, match="undef"):
                function()
            back = old.codec.encode((name, record, function))
        finally:
            codecs._classes["Later"] = later
        assert new.codec.decode(back) == message


def test_nothing_that_cannot_travel_raises_otherwise() -> None:
    with Cluster(0, ["a"]) as cluster:
        codec = cluster["a"].node.codec
        deep: Any = ()
        for _ in range(100_000):
            deep = (deep,)
        for term in (deep, "\ud800", {"\ud800": 1}, [("\udfff",)]):
            with pytest.raises(TypeError, match="cannot be sent to another node"):
                codec.encode(term)
        assert codec.decode(codec.encode_reason(("no", "\ud800"))) == ("no", "'\\ud800'")


class Wire:
    """Two links and the frames between them, which a test may drop, repeat, change and delay."""

    def __init__(self, secret_of_b: bytes = b"s") -> None:
        numbers = count(1)

        def nonce(size: int) -> bytes:
            return next(numbers).to_bytes(size, "big")

        self.keys = {"a": links.cluster_key(b"s"), "b": links.cluster_key(secret_of_b)}
        self.links = {
            "a": Link("a", 1, "b", self.keys["a"], 8.0, nonce),
            "b": Link("b", 2, "a", self.keys["b"], 8.0, nonce),
        }
        self.frames: dict[str, deque[bytes]] = {"a": deque(), "b": deque()}  # for whom
        self.seen: dict[str, list[Any]] = {"a": [], "b": []}
        self.now = 0.0

    def do(self, who: str, events: list[links.Event]) -> None:
        for event in events:
            match event:
                case Send(frame):
                    self.frames["b" if who == "a" else "a"].append(frame)
                case Deliver(payload):
                    self.seen[who].append(bytes(payload))
                case LinkUp() | LinkDown():
                    self.seen[who].append(event)

    def take(self, who: str, frame: bytes) -> None:
        link = self.links[who]
        if frame[:1] in links.HANDSHAKES:
            fields = links.read_handshake(self.keys[who], frame)
            if fields is not None and fields[:2] == [link.peer, who]:
                self.do(who, link.receive_handshake(frame[:1], fields, self.now))
        elif link.session is not None and links.session_of(frame) == link.session.id:
            self.do(who, link.receive(frame, self.now))

    def settle(self) -> None:
        while self.frames["a"] or self.frames["b"]:
            for who in ("a", "b"):
                if self.frames[who]:
                    self.take(who, self.frames[who].popleft())


ACTS = st.sampled_from(
    ["connect", "send", "send", "send", "take", "take", "take", "drop", "again", "change", "tick", "leave"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(ACTS, st.sampled_from(["a", "b"])), max_size=80))
def test_no_loss_without_a_down(acts: list[tuple[str, str]]) -> None:
    """Between a LinkUp and its LinkDown one side hears a beginning of what the other has sent in that session, in order."""
    wire = Wire()
    wire.do("a", wire.links["a"].connect(0.0))
    wire.settle()
    sent: dict[bytes, list[bytes]] = {}
    heard: dict[bytes, list[bytes]] = {}
    numbers = count()
    for act, who in acts:
        link, frames = wire.links[who], wire.frames[who]
        match act:
            case "connect":
                wire.do(who, link.connect(wire.now))
            case "send" if link.session is not None:
                payload = b"%d" % next(numbers)
                sent.setdefault(link.session.id + who.encode(), []).append(payload)
                wire.do(who, link.send(payload, wire.now))
            case "leave":
                wire.do(who, link.disconnect(wire.now))
            case "tick":
                wire.now += 2.0
                wire.do(who, link.tick(wire.now))
            case "take" if frames:
                _take(wire, who, frames.popleft(), heard)
            case "drop" if frames:
                frames.popleft()
            case "again" if frames:
                _take(wire, who, frames[0], heard)
            case "change" if frames:
                _take(wire, who, frames[0][:-1] + bytes([frames[0][-1] ^ 1]), heard)
    for key, payloads in heard.items():
        assert payloads == sent[key][: len(payloads)]


def _take(wire: Wire, who: str, frame: bytes, heard: dict[bytes, list[bytes]]) -> None:
    session = wire.links[who].session
    before = len(wire.seen[who])
    wire.take(who, frame)
    other = "b" if who == "a" else "a"
    for event in wire.seen[who][before:]:
        if isinstance(event, bytes):
            assert session is not None
            heard.setdefault(session.id + other.encode(), []).append(event)


def test_a_gap_is_a_down_on_both_sides() -> None:
    wire = Wire()
    wire.do("a", wire.links["a"].connect(0.0))
    wire.settle()
    assert wire.seen == {"a": [LinkUp(2)], "b": [LinkUp(1)]}
    for payload in (b"1", b"2"):
        wire.do("a", wire.links["a"].send(payload, 0.0))
    wire.frames["b"].popleft()
    wire.settle()
    assert wire.seen == {
        "a": [LinkUp(2), LinkDown("connection_closed")],
        "b": [LinkUp(1), LinkDown("lost_frames")],
    }


def test_what_a_link_has_carried_is_counted_for_the_connection_that_is_up() -> None:
    wire = Wire()
    for before, sent in enumerate((3, 1)):
        wire.now = float(before)
        wire.do("a", wire.links["a"].connect(wire.now))
        wire.settle()
        for number in range(sent):
            wire.do("a", wire.links["a"].send(b"%d" % number, wire.now))
        wire.settle()
        a, b = wire.links["a"], wire.links["b"]
        assert (a.frames_out, b.frames_in, a.up_at) == (sent, sent, wire.now)
        assert a.bytes_out == b.bytes_in > 0
        wire.do("a", a.tick(wire.now + 8.0))  # silence ends it
        wire.do("b", b.tick(wire.now + 8.0))


def test_silence_is_a_down_and_another_secret_is_nobody() -> None:
    wire = Wire()
    wire.do("a", wire.links["a"].connect(0.0))
    wire.settle()
    wire.do("a", wire.links["a"].tick(8.0))
    assert wire.seen["a"][-1] == LinkDown("net_tick_timeout")
    stranger = Wire(secret_of_b=b"other")
    stranger.do("a", stranger.links["a"].connect(0.0))
    stranger.settle()
    assert stranger.seen == {"a": [], "b": []}
    stranger.do("a", stranger.links["a"].tick(links.SETUP_SECONDS))
    assert stranger.seen["a"] == [LinkDown("setup_timeout")]


def test_a_recorded_hello_delays_nobody() -> None:
    for me, peer in (("a", "b"), ("b", "a")):
        wire = Wire()
        wire.do(peer, wire.links[peer].connect(0.0))
        recorded = wire.frames[me][0]
        wire.settle()
        wire.do(me, wire.links[me].disconnect(1.0))
        wire.settle()
        for moment in range(3):
            wire.take(me, recorded)
            assert wire.links[me].is_being_made
            wire.frames[peer].clear()
            wire.now = moment + 2.0
        before = len(wire.seen[me])
        wire.do(me, wire.links[me].connect(wire.now))
        wire.take(me, recorded)
        for _ in range(links.PROPOSALS - 1):
            wire.settle()
            wire.take(me, recorded)
        wire.settle()
        assert wire.seen[me][before:] == [LinkUp(2 if me == "a" else 1)]
        assert wire.links[peer].is_up


def test_recorded_hellos_keep_no_attempt_open() -> None:
    wire = Wire()
    wire.do("a", wire.links["a"].connect(0.0))
    recorded = wire.frames["b"][0]
    for second in range(1, 8):
        wire.now = float(second)
        wire.take("b", recorded)
        wire.do("b", wire.links["b"].tick(wire.now + 1.0))
    assert wire.seen["b"] == [LinkDown("setup_timeout")]
