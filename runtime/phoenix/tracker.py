"""Phoenix.Tracker: which processes are in which topics, the same on all nodes in the end.

A `Tracker` is a GenServer under a registered name, one on each node. Its table is read and written directly by every process
(one thread). It owns this node's replica (`tracker_shard`), tells the trackers of its name on other nodes of its changes every
`broadcast_period` through the PubSub, and reports what joins and leaves by `handle_diff`.

It takes the replicas' messages and its own timer. A tracked process that ends leaves all its topics. When the tracker ends its
table ends with it, and the tracked processes too, as if they were linked: their channels join and track again. A `handle_diff`
that raises or returns something ends it.

With a PubSub that reaches no other node it sends nothing and sets no timer.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from runtime.core.engine import current_engine
from runtime.core.exits import Error
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.nodes import codec
from runtime.otp import erlang
from runtime.otp.gen_server import GenServer, Stop
from runtime.phoenix import pubsub as pubsubs
from runtime.phoenix.pubsub import PubSub
from runtime.phoenix.tracker_shard import (
    Diff,
    Heartbeat,
    Options,
    Output,
    Permdown,
    Shard,
    TransferAnswer,
    TransferRequest,
)
from runtime.phoenix.tracker_state import Delta, Meta, Replica, TrackerEntry

FIRST_HEARTBEAT = 0.25  # of a period, at most, after the start


for _class in (Heartbeat, TransferRequest, TransferAnswer, Permdown, Delta, TrackerEntry):
    codec.register(_class)


class AlreadyTracked(Exception):
    """`{:error, {:already_tracked, pid, topic, key}}`."""


class NoPresence(Exception):
    """`{:error, :nopresence}`: the process does not track this key in this topic."""


class BadReturn(Exception):
    """A callback of the tracker has returned what it must not."""


@dataclass(frozen=True, slots=True)
class HeartbeatDue:
    """Time for a heartbeat."""


@dataclass(frozen=True, slots=True)
class DiffFailed:
    """`handle_diff` raised this in the process that made the change: the tracker is to end by it."""

    error: BaseException


class Tracker(GenServer):
    """`Phoenix.Tracker`.

    Start it by `start_link(pubsub, name=...)`, `pubsub` being the registered name of a PubSub; `Options` may follow, or their
    fields by name (in supervisor.toml). Override `handle_diff`.
    """

    def init(self, pubsub: str, options: Options | None = None, **more: Any) -> None:
        engine = current_engine()
        self.pubsub = pubsub
        self.options = options or Options(**more)
        number = int.from_bytes(engine.unique_bytes(7), "big")
        self._shard = Shard(self._ways().node_name(), number, self.options)
        self._state = self._shard.state
        self._alone = self._ways().adapter is None
        self._prefix = engine.unique_bytes(5)
        self._count = count(int.from_bytes(engine.unique_bytes(4), "big"))
        self._watched: set[Pid] = set()
        self._hook = self._left
        self.on_exit(self._ended)
        self._channel = f"phx_presence:{self._myRef.get_name()}"
        if self.options.permdown_on_shutdown:
            erlang.trap_exit(True)
        if not self._alone:
            self._ways().subscribe(self._channel, self.pid)
            first = int.from_bytes(engine.unique_bytes(2), "big") / 0xFFFF * FIRST_HEARTBEAT
            erlang.send_after(self.options.broadcast_period * first, self.pid, HeartbeatDue())

    # ---- the API

    def track(self, pid: Pid, topic: str, key: Hashable, meta: Meta) -> str:
        """`track/4`: the process, one of this node, is present in the topic under `key`. Returns the `phx_ref`.

        The join is reported on this node when it returns. Raises AlreadyTracked, NoPresence if the process is dead.
        """
        _check_meta(meta)
        if pid.cell.execution.mode == DEAD:
            raise NoPresence(key)
        if self._state.own(pid, topic, key) is not None:
            raise AlreadyTracked(pid, topic, key)
        if pid not in self._watched:
            self._watched.add(pid)
            pid.cell.on_exit(self._hook)
        ref = self._new_ref()
        entry = self._state.join(pid, topic, key, {**copied(meta), "phx_ref": ref})
        self._changed({topic: ([entry], [])})
        return ref

    def update(self, pid: Pid, topic: str, key: Hashable, meta: Meta | Callable[[Meta], Meta]) -> str:
        """`update/4`: replaces the meta, or changes it by a function. One diff tells of both; raises NoPresence."""
        if not callable(meta):
            _check_meta(meta)
        old = self._state.own(pid, topic, key)
        if old is None:
            raise NoPresence(key)
        new = meta(copied(old.meta)) if callable(meta) else meta
        _check_meta(new)
        ref = self._new_ref()
        entry = self._state.update(old, {**copied(new), "phx_ref": ref, "phx_ref_prev": old.meta["phx_ref"]})
        self._changed({topic: ([entry], [old])})
        return ref

    def untrack(self, pid: Pid, topic: str | None = None, key: Hashable = None) -> None:
        """`untrack/3`: the process is no longer present under `key`; with `untrack(pid)`, anywhere. Harmless if it was not."""
        if topic is None:
            self._leave(self._state.of_pid(pid))
            return
        entry = self._state.own(pid, topic, key)
        if entry is not None:
            self._leave([entry])

    def list(self, topic: str) -> Any:
        """`list/2`: (key, meta) of all presences of a topic, without those of nodes that are down."""
        return [(entry.key, copied(entry.meta)) for entry in self._state.entries(topic)]

    def dirty_list(self, topic: str) -> list[tuple[Hashable, Meta]]:
        """`dirty_list/2`: as `list`, with those of nodes that are down."""
        return [(entry.key, copied(entry.meta)) for entry in self._state.entries(topic, with_down=True)]

    def get_by_key(self, topic: str, key: Hashable) -> Any:
        """`get_by_key/3`: (pid, meta) of all presences of one key."""
        return [(entry.pid, copied(entry.meta)) for entry in self._state.entries(topic) if entry.key == key]

    def graceful_permdown(self) -> None:
        """`graceful_permdown/1`: tells all nodes that this one goes for good, and ends the tracker."""
        self._send(self._shard.permdown())
        erlang.exit(self.pid, "shutdown")

    def replicas(self) -> dict[Replica, bool]:
        """The other nodes' trackers, and whether each counts as up."""
        return self._shard.peers()

    # ---- the callback

    def handle_diff(self, diff: Diff) -> None:
        """`handle_diff/2`: topic -> (joins, leaves), for every change on any node.

        Runs where the change was made: it must be quick and must not wait.
        """

    # ---- the process

    def handle_info(self, message: Any) -> Any:
        match message:
            case HeartbeatDue():
                self._put_out(self._shard.tick(self._now()))
                erlang.send_after(self.options.broadcast_period, self.pid, HeartbeatDue())
            case Heartbeat() | TransferRequest() | TransferAnswer() | Permdown():
                self._put_out(self._shard.receive(message, self._now()))
            case DiffFailed(error):
                raise error
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    def terminate(self, reason: Any) -> None:
        if self.options.permdown_on_shutdown and (reason in ("shutdown", "normal")):
            self._send(self._shard.permdown())

    def _now(self) -> float:
        return self.now() * 1000

    def _ways(self) -> PubSub:
        return pubsubs.whereis(self.pubsub)

    def _changed(self, diff: Diff) -> None:
        if self._alone:
            self._state.take_delta()  # nobody gets it: it must not grow
        self._report(diff)

    def _put_out(self, output: Output) -> None:
        for diff in output.diffs:
            self._report(diff)
        self._send(output)

    def _report(self, diff: Diff) -> None:
        try:
            returned: Any = self.handle_diff(diff)  # type: ignore[func-returns-value]
            if returned is not None:
                raise BadReturn(f"handle_diff returned {returned!r}")
        except Exception as error:
            self._myRef.deliver(DiffFailed(error))

    def _send(self, output: Output) -> None:
        if self._alone:
            return
        ways = self._ways()
        for node, message in output.sent:
            if node is None:
                ways.broadcast_from(self.pid, self._channel, message)
            else:
                ways.direct_broadcast(node, self._channel, message)

    def _leave(self, entries: list[TrackerEntry]) -> None:
        diff: Diff = {}
        for entry in entries:
            self._state.leave(entry)
            diff.setdefault(entry.topic, ([], []))[1].append(entry)
        if diff:
            self._changed(diff)

    def _left(self, pid: Pid) -> None:
        self._watched.discard(pid)
        self._leave(self._state.of_pid(pid))

    def _ended(self, _pid: Pid) -> None:
        for pid in self._state.pids():
            pid.cell.exit_signal(self._myRef, "noproc", False)

    def _new_ref(self) -> str:
        number = next(self._count) & 0xFFFFFFFF
        return base64.b64encode(self._prefix + number.to_bytes(4, "big")).decode()

    def format_status(self) -> Any:
        topics, tracked = self._state.counts()
        up = sum(self.replicas().values())
        return {"topics": topics, "tracked": tracked, "replicas": 1 + up}


def copied(meta: Any) -> Any:
    """A meta that its holder may change: maps and lists are new, whatever else is in them is shared."""
    if isinstance(meta, Mapping):
        return {key: copied(value) for key, value in meta.items()}
    if isinstance(meta, list):
        return [copied(value) for value in meta]
    return meta


def _check_meta(meta: Any) -> None:
    if not isinstance(meta, Mapping):
        raise TypeError(f"the meta of a presence must be a dict, got {meta!r}")


def whereis(name: str) -> Tracker:
    """The tracker registered under a name. Raises Error("noproc") if it does not run."""
    cell = current_engine().names.get(name)
    if cell is None or not isinstance(cell.actor, Tracker):
        raise Error("noproc")
    return cell.actor
