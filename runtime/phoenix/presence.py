"""Phoenix.Presence: who is in a topic, on all nodes, as the `phoenix` client's Presence class reads it.

A `Presence` is a `Tracker` (see there for its life, its shards and its replicas) that broadcasts changes to the sockets of its
own node: one "presence_diff" for each topic of a diff, on this node only, since the tracker of each node does so. A linked
process fetches and broadcasts, in the order of the diffs, so that a slow `fetch` holds up no heartbeat.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Coroutine, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from runtime.core.engine import current_engine
from runtime.core.exits import Error
from runtime.core.pid import Pid
from runtime.otp import erlang
from runtime.phoenix.endpoint import local_broadcast
from runtime.phoenix.json_library import EncodeError
from runtime.phoenix.tracker import AlreadyTracked, BadReturn, NoPresence, Tracker, copied
from runtime.phoenix.tracker_pool import TrackerPool
from runtime.phoenix.tracker_shard import Diff, Options
from runtime.phoenix.tracker_state import Meta, TrackerEntry

__all__ = ["AlreadyTracked", "Meta", "NoPresence", "Presence", "State", "whereis"]

_log = logging.getLogger("runtime.phoenix")

State = dict[str, dict[str, Any]]  # key -> {"metas": [meta, ...]}


@dataclass(frozen=True, slots=True)
class PresenceDiff:
    """What joined and left one topic: a "presence_diff" that is yet to be broadcast."""

    topic: str
    joins: State
    leaves: State


class Presence(Tracker):
    """Start it with `Presence.start_link(pubsub, name="presence")`, `pubsub` being the registered name of a PubSub.

    Override `fetch` to add to what clients see, and `handle_metas` to act on what changes.
    """

    def init(self, pubsub: str, options: Options | None = None, **more: Any) -> None:
        super().init(pubsub, options, **more)
        self._watching = type(self).handle_metas is not Presence.handle_metas
        self._metas: dict[str, dict[str, list[Meta]]] = {}
        self._broadcaster: Pid = erlang.spawn_link(self._broadcast_in_order)

    # ---- the API, for topics of this shard; see TrackerPool

    def list(self, topic: str) -> Any:
        return self.fetch(topic, _group(self._state.entries(topic)))

    def get_by_key(self, topic: str, key: Hashable) -> Any:
        there = [entry for entry in self._state.entries(topic) if entry.key == key]
        if not there:
            return _nothing() if inspect.iscoroutinefunction(self.fetch) else []
        found = self.fetch(topic, _group(there))
        return _awaited(found, str(key)) if inspect.isawaitable(found) else found[str(key)]

    # ---- the callbacks

    def fetch(self, topic: str, presences: State) -> Any:
        """`fetch/2`: adds data of one's own to the presences that clients see. It may be `async`. It owns what it gets."""
        return presences

    def handle_metas(self, topic: str, diff: dict[str, State], presences: dict[str, list[Meta]]) -> Any:
        """`handle_metas/4`: after a diff was broadcast.

        `diff` is what was, `presences` all metas of the topic by key. Must return None, or something to await that gives None;
        anything else ends the presence.
        """

    def handle_diff(self, diff: Diff) -> None:
        for topic, (joins, leaves) in diff.items():
            self._broadcaster.cell.deliver(PresenceDiff(topic, _group(joins), _group(leaves)))

    def _linked_process_ended(self, pid: Pid, reason: Any) -> Coroutine[Any, Any, Any] | None:
        if pid is self._broadcaster:
            return self._stop(reason)
        return super()._linked_process_ended(pid, reason)

    # ---- the process that broadcasts

    async def _broadcast_in_order(self) -> None:
        while True:
            change: PresenceDiff = await erlang.receive()
            joins = await _given(self.fetch(change.topic, change.joins))
            leaves = await _given(self.fetch(change.topic, change.leaves))
            diff = {"joins": joins, "leaves": leaves}
            try:
                local_broadcast(self.pubsub, change.topic, "presence_diff", diff)
            except EncodeError:
                # One meta that is no JSON must not cost all the others their presence.
                _log.exception(
                    "the metas tracked in %s have no JSON form: a presence_diff is lost", change.topic
                )
            if self._watching:
                await self._handle_metas(change.topic, diff)

    async def _handle_metas(self, topic: str, diff: dict[str, State]) -> None:
        there = self._metas.setdefault(topic, {})
        for key, entry in diff["joins"].items():
            there[key] = there.get(key, []) + entry["metas"]
        for key, entry in diff["leaves"].items():
            gone = {meta.get("phx_ref") for meta in entry["metas"]}
            kept = [meta for meta in there.get(key, []) if meta.get("phx_ref") not in gone]
            if kept:
                there[key] = kept
            else:
                there.pop(key, None)
        returned = await _given(self.handle_metas(topic, copied(diff), copied(there)))
        if not there:
            del self._metas[topic]
        if returned is not None:
            raise BadReturn(f"handle_metas returned {returned!r}")


async def _given(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _awaited(found: Awaitable[State], key: str) -> Any:
    return (await found)[key]


async def _nothing() -> list[Any]:
    return []


def _group(entries: Iterable[TrackerEntry]) -> State:
    grouped: State = {}
    for entry in entries:
        grouped.setdefault(str(entry.key), {"metas": []})["metas"].append(copied(entry.meta))
    return grouped


def whereis(name: str = "presence") -> TrackerPool:
    """The Presence registered under a name. Raises Error("noproc") if it does not run."""
    cell = current_engine().names.get(name)
    if (
        cell is None
        or not isinstance(cell.actor, TrackerPool)
        or not issubclass(cell.actor.tracker, Presence)
    ):
        raise Error("noproc")
    return cell.actor
