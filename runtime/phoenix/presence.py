"""Phoenix.Presence: who is in a topic, as the `phoenix` client's Presence class reads it.

A `Presence` is a GenServer under a registered name. Its table is read and written directly by every process
(one thread); what changed is broadcast by the process itself, as one "presence_diff" per change. It takes its
own `_Diff` messages. A tracked process that ends leaves all its topics, with one diff per topic. If the
Presence process ends its table ends with it, and the tracked processes too: their channels rejoin and track
again.

Presences are those of this node.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from runtime.core.engine import current_engine
from runtime.core.exits import Error
from runtime.core.pid import Pid
from runtime.core.scheduling import DEAD
from runtime.otp.gen_server import GenServer
from runtime.phoenix.endpoint import broadcast
from runtime.phoenix.json_library import EncodeError

_log = logging.getLogger("runtime.phoenix")

Meta = dict[str, Any]
State = dict[str, dict[str, Any]]  # key -> {"metas": [meta, ...]}


class AlreadyTracked(Exception):
    """`{:error, {:already_tracked, pid, topic, key}}`."""


class NoPresence(Exception):
    """`{:error, :nopresence}`: the process does not track this key in this topic."""


@dataclass(slots=True)
class _Diff:
    topic: str
    joins: list[tuple[Any, Meta]] = field(default_factory=list)
    leaves: list[tuple[Any, Meta]] = field(default_factory=list)


class Presence(GenServer):
    """Start it with `Presence.start_link(pubsub, name="presence")`, `pubsub` being the registered name of a
    PubSub.

    Override `fetch` to add to what clients see.
    """

    def init(self, *args: Any) -> None:
        (self.pubsub,) = args
        self._topics: dict[str, dict[tuple[Pid, Any], Meta]] = {}
        self._keys: dict[Pid, dict[tuple[str, Any], None]] = {}
        self._hook = self._left
        self._prefix = os.urandom(5)
        self._count = count(int.from_bytes(os.urandom(4), "big"))
        self._myRef.on_exit(self._ended)

    # ---- the API

    def track(self, pid: Pid, topic: str, key: Any, meta: Meta) -> str:
        """`track/4`: the process is present in the topic under `key`. Returns the `phx_ref`; raises
        AlreadyTracked.
        """
        _check_meta(meta)
        if pid.cell.run.mode == DEAD:
            raise NoPresence(key)
        keys = self._keys.get(pid)
        if keys is None:
            keys = self._keys[pid] = {}
            pid.cell.on_exit(self._hook)
        if (topic, key) in keys:
            raise AlreadyTracked(pid, topic, key)
        ref = self._new_ref()
        keys[topic, key] = None
        tracked = {**meta, "phx_ref": ref}
        self._topics.setdefault(topic, {})[pid, key] = tracked
        self._tell(_Diff(topic, joins=[(key, tracked)]))
        return ref

    def update(self, pid: Pid, topic: str, key: Any, meta: Meta | Callable[[Meta], Meta]) -> str:
        """`update/4`: replaces the meta, or changes it by a function. One diff tells of both; raises
        NoPresence.
        """
        if not callable(meta):
            _check_meta(meta)
        old = self._topics.get(topic, {}).get((pid, key))
        if old is None:
            raise NoPresence(key)
        new = meta(dict(old)) if callable(meta) else meta
        _check_meta(new)
        ref = self._new_ref()
        tracked = {**new, "phx_ref": ref, "phx_ref_prev": old["phx_ref"]}
        self._topics[topic][pid, key] = tracked
        self._tell(_Diff(topic, joins=[(key, tracked)], leaves=[(key, old)]))
        return ref

    def untrack(self, pid: Pid, topic: str, key: Any) -> None:
        """`untrack/3`: the process is no longer present under `key`; harmless if it was not."""
        keys = self._keys.get(pid)
        if keys is not None and (topic, key) in keys:
            del keys[topic, key]
            self._tell(_Diff(topic, leaves=[(key, self._remove(topic, pid, key))]))

    def list(self, topic: str) -> State:
        """`list/1`: all presences of a topic, for "presence_state"."""
        entries = self._topics.get(topic, {})
        return self.fetch(topic, _group((key, meta) for (_pid, key), meta in entries.items()))

    def get_by_key(self, topic: str, key: Any) -> Any:
        """`get_by_key/2`: one key's `{"metas": [...]}`, an empty list if nobody has it."""
        entries = self._topics.get(topic, {})
        metas = [meta for (_pid, held), meta in entries.items() if held == key]
        return self.fetch(topic, {str(key): {"metas": metas}})[str(key)] if metas else []

    def fetch(self, topic: str, presences: State) -> State:
        """`fetch/2`: a callback to add data of one's own to the presences that clients see."""
        return presences

    # ---- the process

    def handle_info(self, message: Any) -> Any:
        if type(message) is _Diff:
            joins = self.fetch(message.topic, _group(message.joins))
            leaves = self.fetch(message.topic, _group(message.leaves))
            try:
                broadcast(self.pubsub, message.topic, "presence_diff", {"joins": joins, "leaves": leaves})
            except EncodeError:
                # One meta that is no JSON must not cost all the others their presence.
                _log.exception(
                    "the metas tracked in %s have no JSON form: a presence_diff is lost", message.topic
                )

    def _tell(self, diff: _Diff) -> None:
        self._myRef.deliver(diff)

    def _left(self, pid: Pid) -> None:
        diffs: dict[str, _Diff] = {}
        for topic, key in self._keys.pop(pid, ()):
            diff = diffs.setdefault(topic, _Diff(topic))
            diff.leaves.append((key, self._remove(topic, pid, key)))
        for diff in diffs.values():
            self._tell(diff)

    def _ended(self, _pid: Pid) -> None:
        for pid in list(self._keys):
            pid.cell.exit_signal(self._myRef, "noproc", False)

    def _remove(self, topic: str, pid: Pid, key: Any) -> Meta:
        entries = self._topics[topic]
        meta = entries.pop((pid, key))
        if not entries:
            del self._topics[topic]
        return meta

    def _new_ref(self) -> str:
        number = next(self._count) & 0xFFFFFFFF
        return base64.b64encode(self._prefix + number.to_bytes(4, "big")).decode()

    def format_status(self) -> Any:
        return {"topics": len(self._topics), "tracked": len(self._keys)}


def _check_meta(meta: Any) -> None:
    if not isinstance(meta, Mapping):
        raise TypeError(f"the meta of a presence must be a dict, got {meta!r}")


def _group(entries: Iterable[tuple[Any, Meta]]) -> State:
    grouped: State = {}
    for key, meta in entries:
        grouped.setdefault(str(key), {"metas": []})["metas"].append(meta)
    return grouped


def whereis(name: str = "presence") -> Presence:
    """The Presence registered under a name. Raises Error("noproc") if it does not run."""
    cell = current_engine().names.get(name)
    if cell is None or not isinstance(cell.actor, Presence):
        raise Error("noproc")
    return cell.actor
