"""Phoenix.Tracker: the presences of processes in topics, eventually consistent on all nodes.

A `Tracker` is the callback module and the process of one shard (`Phoenix.Tracker.Shard`). It owns this node's replica of the
topics of the shard (`tracker_shard`), which all processes read and write directly, sends its changes to the shards of its name on
other nodes every `broadcast_period` through the PubSub, and reports joins and leaves by `handle_diff`. `start_link` starts the
supervisor of all shards of a node (`tracker_pool`), which has the API.

It handles the messages of other replicas and its timer; others go to `handle_info`. It links to each tracked process and traps
exits: a process that ends leaves all its topics, and one that does not trap exits ends with the shard. It monitors the PubSub and
ends with it. A `handle_diff` or `handle_info` that raises or returns a value ends it.

If the PubSub has no adapter, it sends nothing and sets no timer.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from runtime.core.engine import current_engine
from runtime.core.exits import Exit, reason_of
from runtime.core.modes import DEAD
from runtime.core.pid import Pid, Ref
from runtime.core.signals import ExitMessage
from runtime.nodes import codec
from runtime.otp import erlang
from runtime.otp.callback import NoReply, Raised
from runtime.otp.child_spec import ChildSpec
from runtime.otp.exact_key import same
from runtime.otp.gen_server import GenServer
from runtime.phoenix import pubsub as pubsubs
from runtime.phoenix.pubsub import PubSub
from runtime.phoenix.tracker_pool import TrackerPool
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

FIRST_HEARTBEAT = 0.25  # of a period: the longest time to the first heartbeat


for _class in (Heartbeat, TransferRequest, TransferAnswer, Permdown, Delta, TrackerEntry):
    codec.register(_class)


class AlreadyTracked(Exception):
    """`{:error, {:already_tracked, pid, topic, key}}`."""


class NoPresence(Exception):
    """`{:error, :nopresence}`: the process does not track this key in this topic."""


class BadReturn(Exception):
    """A callback of the tracker has returned an invalid value."""


@dataclass(frozen=True, slots=True)
class HeartbeatDue:
    """The timer of heartbeats."""


@dataclass(frozen=True, slots=True)
class DiffFailed:
    """`handle_diff` has raised in the process that made the change; ends the shard."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class PermdownSent:
    """All nodes have the permdown of this shard: ends it."""


class Tracker(GenServer):
    """`Phoenix.Tracker`.

    Start it by `start_link(pubsub, name=...)` with the registered name of a PubSub; `Options` may follow, or in supervisor.toml
    their fields by name. Override `handle_diff`. An instance is the process of one shard.
    """

    def init(self, pubsub: str, options: Options | None = None, **more: Any) -> None:
        engine = current_engine()
        self.pubsub = pubsub
        self.options = options or Options(**more)
        number = int.from_bytes(engine.unique_bytes(7), "big")
        server = self._pubsub()
        self._shard = Shard(server.node_name(), number, self.options)
        self._state = self._shard.state
        self._alone = server.adapter is None
        self._prefix = engine.unique_bytes(5)
        self._count = count(int.from_bytes(engine.unique_bytes(4), "big"))
        self._channel = f"phx_presence:{self._myRef.get_name()}"
        self._pubsub_monitor: Ref = erlang.monitor(server.pid)
        erlang.trap_exit(True)
        if not self._alone:
            server.subscribe(self._channel, self.pid)
            first = int.from_bytes(engine.unique_bytes(2), "big") / 0xFFFF * FIRST_HEARTBEAT
            erlang.send_after(self.options.broadcast_period * first, self.pid, HeartbeatDue())

    # ---- starting: the supervisor of the shards

    @classmethod
    async def start_link(cls, *args: Any, name: Any = None, timeout: float | None = None) -> Pid | None:
        """`Phoenix.Tracker.start_link/3`: starts the supervisor of all shards as `name`, with the arguments of `init`.

        Raises StartError, also for invalid options.
        """
        return await TrackerPool.start_link(cls, args, name=name, timeout=timeout)

    @classmethod
    async def start(cls, *args: Any, name: Any = None, timeout: float | None = None) -> Pid | None:
        """As `start_link`, without the link."""
        return await TrackerPool.start(cls, args, name=name, timeout=timeout)

    @classmethod
    async def start_configured(cls, name: str, arguments: Mapping[str, Any]) -> Pid | None:
        """As `start_link`, with arguments by name."""
        return await TrackerPool.start_link(cls, (), arguments, name=name)

    @classmethod
    def child_spec(cls, *args: Any, **options: Any) -> ChildSpec:
        """As of GenServer; the child is a supervisor."""
        return super().child_spec(*args, **{"type": "supervisor", **options})

    # ---- the API, for topics of this shard; see TrackerPool

    def track(self, pid: Pid, topic: str, key: Hashable, meta: Meta) -> str:
        """As `TrackerPool.track`."""
        _check_meta(meta)
        if self._state.own(pid, topic, key) is not None:
            raise AlreadyTracked(pid, topic, key)
        if pid.cell.execution.mode == DEAD:  # as in Phoenix it joins, and leaves by this message
            self._myRef.deliver(ExitMessage(pid, "noproc"))
        else:
            pid.cell.link(self._myRef)
        ref = self._new_ref()
        entry = self._state.join(pid, topic, key, {**copied(meta), "phx_ref": ref})
        self._changed({topic: ([entry], [])})
        return ref

    def update(self, pid: Pid, topic: str, key: Hashable, meta: Meta | Callable[[Meta], Meta]) -> str:
        """As `TrackerPool.update`."""
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
        """As `TrackerPool.untrack`."""
        if topic is None:
            found = self._state.of_pid(pid)
        else:
            entry = self._state.own(pid, topic, key)
            found = [] if entry is None else [entry]
        self._leave(found)
        if not self._state.of_pid(pid):
            self._myRef.unlink(pid.cell)

    def list(self, topic: str) -> Any:
        """As `TrackerPool.list`."""
        return [(entry.key, copied(entry.meta)) for entry in self._state.entries(topic)]

    def dirty_list(self, topic: str) -> list[tuple[Hashable, Meta]]:
        """As `TrackerPool.dirty_list`."""
        return [(entry.key, copied(entry.meta)) for entry in self._state.entries(topic, with_down=True)]

    def get_by_key(self, topic: str, key: Hashable) -> Any:
        """As `TrackerPool.get_by_key`."""
        return [
            (entry.pid, copied(entry.meta)) for entry in self._state.entries(topic) if same(entry.key, key)
        ]

    def graceful_permdown(self) -> None:
        """As `TrackerPool.graceful_permdown`, for this shard; it ends with reason "normal"."""
        self._send(self._shard.permdown())
        self._myRef.deliver(PermdownSent())

    def replicas(self) -> dict[Replica, bool]:
        """The replicas of this shard on other nodes, and whether each is up."""
        return self._shard.peers()

    # ---- the callbacks

    def handle_diff(self, diff: Diff) -> None:
        """`handle_diff/2`: called with topic -> (joins, leaves) for every change on any node.

        A local change calls it in the process that makes the change, so it must be quick. Must return None.
        """

    def handle_info(self, message: Any) -> Any:
        """`handle_info/2`: handles any other message. Must return None or `NoReply()`."""

    # ---- Phoenix.Tracker.Shard

    def _handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        match message:
            case HeartbeatDue():
                self._perform(self._shard.tick(self.now() * 1000))
                erlang.send_after(self.options.broadcast_period, self.pid, HeartbeatDue())
            case Heartbeat() | TransferRequest() | TransferAnswer() | Permdown():
                self._perform(self._shard.receive(message, self.now() * 1000))
            case ExitMessage(pid=pid, reason=reason) if pid is not self._myRef.relations.parent:
                return self._linked_process_ended(pid, reason)
            case erlang.Down(ref=self._pubsub_monitor, reason=reason):
                return self._stop(reason)
            case DiffFailed(error):
                raise error
            case PermdownSent():
                return self._stop("normal")
            case _:
                return super()._handle(message)
        return None

    def _linked_process_ended(self, pid: Pid, reason: Any) -> Coroutine[Any, Any, Any] | None:
        """A tracked process has ended, or another has sent its EXIT message: it leaves all topics."""
        self._leave(self._state.of_pid(pid), in_shard=True)
        return None

    def _apply(self, result: Any, from_: Any) -> Coroutine[Any, Any, Any] | None:
        if from_ is None and result is not None and not isinstance(result, NoReply | Raised):
            raise BadReturn(
                f"{type(self).__name__}.handle_info is to return None or NoReply(), got {result!r}"
            )
        return super()._apply(result, from_)

    def _pubsub(self) -> PubSub:
        return pubsubs.whereis(self.pubsub)

    def _changed(self, diff: Diff, in_shard: bool = False) -> None:
        if self._alone:
            self._state.take_delta()  # not sent anywhere, so it must not grow
        try:
            self._report(diff)
        except Exception as error:
            if in_shard:
                raise
            self._myRef.deliver(DiffFailed(error))
            raise Exit(reason_of(error)) from error  # as of a call to a server that crashes

    def _perform(self, output: Output) -> None:
        for diff in output.diffs:
            self._report(diff)
        self._send(output)

    def _report(self, diff: Diff) -> None:
        returned: Any = self.handle_diff(diff)  # type: ignore[func-returns-value]
        if returned is not None:
            raise BadReturn(f"{type(self).__name__}.handle_diff is to return None, got {returned!r}")

    def _send(self, output: Output) -> None:
        if self._alone:
            return
        server = self._pubsub()
        for node, message in output.sent:
            if node is None:
                server.broadcast_from(self.pid, self._channel, message)
            else:
                server.direct_broadcast(node, self._channel, message)

    def _leave(self, entries: list[TrackerEntry], in_shard: bool = False) -> None:
        diff: Diff = {}
        for entry in entries:
            self._state.leave(entry)
            diff.setdefault(entry.topic, ([], []))[1].append(entry)
        if diff:
            self._changed(diff, in_shard)

    def _new_ref(self) -> str:
        number = next(self._count) & 0xFFFFFFFF
        return base64.b64encode(self._prefix + number.to_bytes(4, "big")).decode()

    def format_status(self) -> Any:
        topics, tracked = self._state.counts()
        up = sum(self.replicas().values())
        return {"topics": topics, "tracked": tracked, "replicas": 1 + up}


def copied(meta: Any) -> Any:
    """A copy of a meta: maps and lists are copied, other values are shared."""
    if isinstance(meta, Mapping):
        return {key: copied(value) for key, value in meta.items()}
    if isinstance(meta, list):
        return [copied(value) for value in meta]
    return meta


def _check_meta(meta: Any) -> None:
    if not isinstance(meta, Mapping):
        raise TypeError(f"the meta of a presence must be a dict, got {meta!r}")
