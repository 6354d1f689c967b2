"""The protocol between replicas of a tracker (`Phoenix.Tracker.Shard`): heartbeats with deltas, transfers, failure detection.

Sans-IO: messages, ticks and the time (ms of a monotonic clock) go in, an `Output` of diffs to report and messages to send comes
out. Messages may be lost, duplicated or delayed. A replica that has missed changes gets them by a transfer within about two
sample rounds once heartbeats arrive again. Presences of a replica that is silent for longer than `down_period` are hidden, and
removed after `permdown_period`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from runtime.phoenix.tracker_state import (
    Clocks,
    Delta,
    Generations,
    Replica,
    State,
    TrackerEntry,
    behind,
    trimmed,
)


@dataclass(frozen=True, slots=True)
class Options:
    """Phoenix's options and defaults; periods in milliseconds. Raises ValueError for invalid options, as Phoenix does."""

    broadcast_period: int = 1_500
    max_silent_periods: int = 10
    down_period: int | None = None  # broadcast_period x max_silent_periods x 2
    permdown_period: int = 1_200_000
    clock_sample_periods: int = 2
    max_delta_sizes: tuple[int, ...] = (100, 1_000, 10_000)
    permdown_on_shutdown: bool = False
    pool_size: int = 1  # shards; the same on all nodes

    def __post_init__(self) -> None:
        if self.silence < 2 * self.broadcast_period:
            raise ValueError("down_period must be at least twice as large as broadcast_period")
        if self.permdown_period <= self.silence:
            raise ValueError("permdown_period must be larger than down_period")
        if self.pool_size < 1:
            raise ValueError("pool_size must be 1 or more")

    @property
    def silence(self) -> int:
        """The effective down period, in milliseconds."""
        if self.down_period is not None:
            return self.down_period
        return self.broadcast_period * self.max_silent_periods * 2


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A replica is alive: its clocks for all replicas and, after changes, its delta."""

    replica: Replica
    clocks: Clocks
    delta: Delta | None = None


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """A replica that has seen `clocks` requests what it has missed."""

    replica: Replica
    clocks: Clocks


@dataclass(frozen=True, slots=True)
class TransferAnswer:
    """The changes that a TransferRequest has missed."""

    replica: Replica
    delta: Delta


@dataclass(frozen=True, slots=True)
class Permdown:
    """A replica is permanently down."""

    replica: Replica


Sent = Heartbeat | TransferRequest | TransferAnswer | Permdown
Diff = dict[str, tuple[list[TrackerEntry], list[TrackerEntry]]]  # topic -> joins, leaves


@dataclass(slots=True)
class Output:
    """The result of an input: `diffs` to report in order, and messages to a node, or with None to all others."""

    diffs: list[Diff] = field(default_factory=list)
    sent: list[tuple[str | None, Sent]] = field(default_factory=list)

    def report(self, joins: Iterable[TrackerEntry], leaves: Iterable[TrackerEntry]) -> None:
        """Adds a diff, unless nothing has changed."""
        diff: Diff = {}
        for entry in joins:
            diff.setdefault(entry.topic, ([], []))[0].append(entry)
        for entry in leaves:
            diff.setdefault(entry.topic, ([], []))[1].append(entry)
        if diff:
            self.diffs.append(diff)


@dataclass(slots=True)
class _Peer:
    replica: Replica
    last_received: float
    up: bool = True
    # While it is down: its joins that other replicas have sent and that were reported, and the time of the last one.
    reported: dict[int, TrackerEntry] = field(default_factory=dict)
    reported_at: float = 0.0


class Shard:
    """One replica of a tracker. `vsn` is different after each start."""

    def __init__(self, name: str, vsn: int, options: Options | None = None) -> None:
        self.options = options or Options()
        self.replica: Replica = (name, vsn)
        self.state = State(self.replica)
        self.generations = Generations(self.options.max_delta_sizes)
        self._peers: dict[str, _Peer] = {}
        self._replaced: dict[str, Replica] = {}  # the previous vsn, whose late messages are ignored
        self._silent = self.options.max_silent_periods  # the first tick sends a heartbeat
        self._sample = 0
        self._pending: dict[Replica, Clocks] = {}

    def peers(self) -> dict[Replica, bool]:
        """The other replicas, and whether each is up."""
        return {peer.replica: peer.up for peer in self._peers.values()}

    # ---- time

    def tick(self, now: float) -> Output:
        """Called once per `broadcast_period`."""
        output = Output()
        self._heartbeat(output)
        self._sample += 1
        if self._sample >= self.options.clock_sample_periods:
            self._sample = 0
            self._request(output)
        self._detect_downs(output, now)
        return output

    def _heartbeat(self, output: Output) -> None:
        if self.state.changed:
            delta = self.state.take_delta()
            self.generations.push(delta)
        elif self._silent >= self.options.max_silent_periods:
            delta = None
        else:
            self._silent += 1
            return
        self._silent = 0
        output.sent.append((None, Heartbeat(self.replica, self.state.clocks(), delta)))

    def _request(self, output: Output) -> None:
        pending, self._pending = self._pending, {}
        mine = self.state.context
        ahead = {replica: clocks for replica, clocks in pending.items() if behind(mine, clocks)}
        for name, _vsn in trimmed(ahead):
            output.sent.append((name, TransferRequest(self.replica, dict(mine))))

    def _detect_downs(self, output: Output, now: float) -> None:
        for peer in list(self._peers.values()):
            silent = now - peer.last_received
            if silent > self.options.permdown_period:
                self._permdown(output, peer)
            elif silent > self.options.silence and peer.up:
                peer.up = False
                output.report((), self.state.down(peer.replica))
            elif peer.reported and now - peer.reported_at > self.options.silence:
                # The replica that sent them may be down too, so that their leaves would never be reported.
                output.report((), peer.reported.values())
                peer.reported.clear()

    def _permdown(self, output: Output, peer: _Peer) -> None:
        if peer.up:
            output.report((), self.state.down(peer.replica))
        else:
            output.report((), peer.reported.values())
        self.state.forget(peer.replica)
        self.generations.forget(peer.replica)
        self._pending.pop(peer.replica, None)
        del self._peers[peer.replica[0]]

    # ---- messages

    def receive(self, message: Sent, now: float) -> Output:
        """Handles a message of another replica."""
        output = Output()
        replica = message.replica
        if replica[0] == self.replica[0] or replica == self._replaced.get(replica[0]):
            return output
        match message:
            case Heartbeat(_, clocks, delta):
                self._received_from(output, replica, now)
                self._pending[replica] = clocks
                if delta is not None:
                    self._merge(output, delta, now)
            case TransferRequest(_, clocks):
                output.sent.append((replica[0], TransferAnswer(self.replica, self._missed(replica, clocks))))
            case TransferAnswer(_, delta):
                self._merge(output, delta, now)
            case Permdown():
                peer = self._peers.get(replica[0])
                if peer is not None and peer.replica == replica:
                    self._replaced[replica[0]] = replica
                    self._permdown(output, peer)
        return output

    def _received_from(self, output: Output, replica: Replica, now: float) -> None:
        peer = self._peers.get(replica[0])
        if peer is not None and peer.replica == replica:
            peer.last_received = now
            if not peer.up:
                peer.up = True
                peer.reported.clear()
                output.report(self.state.up(replica), ())
            return
        if peer is not None:
            self._replaced[replica[0]] = peer.replica
            self._permdown(output, peer)
        self._peers[replica[0]] = _Peer(replica, now)
        self.state.up(replica)
        # Sends a heartbeat at the next tick, so that a new replica learns of this one.
        self._silent = self.options.max_silent_periods

    def _missed(self, replica: Replica, clocks: Clocks) -> Delta:
        kept = self.generations.extract(replica, clocks, self.state.published)
        return self.state.extract(replica) if kept is None else kept

    def _merge(self, output: Output, delta: Delta, now: float) -> None:
        joined, left = self.state.merge(delta)
        self.generations.push(delta)
        if self.state.downs:
            left = [entry for entry in left if self._was_reported(entry)]
            for entry in joined:
                if entry.replica in self.state.downs:
                    peer = self._peers[entry.replica[0]]
                    peer.reported[entry.clock] = entry
                    peer.reported_at = now
        output.report(joined, left)

    def _was_reported(self, entry: TrackerEntry) -> bool:
        """True if a leave is to be reported: those of a replica that is down were reported when it went down."""
        if entry.replica not in self.state.downs:
            return True
        return self._peers[entry.replica[0]].reported.pop(entry.clock, None) is not None

    # ---- leaving

    def permdown(self) -> Output:
        """Tells the others that this replica is permanently down (`graceful_permdown`)."""
        output = Output()
        output.sent.append((None, Permdown(self.replica)))
        return output
