"""Phoenix.Presence: the presences of a topic on all nodes, in the format of the `phoenix` client's Presence class.

A `Presence` is a `Tracker` that broadcasts each change as a "presence_diff" to the subscribers on its own node; the tracker of
every node does so. A linked process calls `fetch` and broadcasts, in the order of the diffs, so that a slow `fetch` delays no
heartbeat.
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
from runtime.otp.exact_key import same
from runtime.phoenix.endpoint import local_broadcast
from runtime.phoenix.json_library import EncodeError
from runtime.phoenix.string_chars import to_string
from runtime.phoenix.tracker import AlreadyTracked, BadReturn, NoPresence, Tracker, copied
from runtime.phoenix.tracker_pool import TrackerPool
from runtime.phoenix.tracker_shard import Diff, Options
from runtime.phoenix.tracker_state import Meta, TrackerEntry

__all__ = ["AlreadyTracked", "Meta", "NoPresence", "Presence", "State", "whereis"]

_log = logging.getLogger("runtime.phoenix")

State = dict[str, dict[str, Any]]  # key -> {"metas": [meta, ...]}


@dataclass(frozen=True, slots=True)
class PresenceDiff:
    """The joins and leaves of a topic, to be broadcast as "presence_diff"."""

    topic: str
    joins: State
    leaves: State


class Presence(Tracker):
    """`Phoenix.Presence`. Start it with `Presence.start_link(pubsub, name="presence")`; `pubsub` is a registered name.

    Override `fetch` to extend the data that clients see, and `handle_metas` to act on changes.
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
        text = to_string(key)  # as in Phoenix, what has no string form raises whether it is tracked or not
        there = [entry for entry in self._state.entries(topic) if same(entry.key, key)]
        if not there:
            return _nothing() if inspect.iscoroutinefunction(self.fetch) else []
        found = self.fetch(topic, _group(there))
        return _awaited(found, text) if inspect.isawaitable(found) else found[text]

    # ---- the callbacks

    def fetch(self, topic: str, presences: State) -> Any:
        """`fetch/2`: returns `presences` with additional data; may be `async def` and may change its argument."""
        return presences

    def handle_metas(self, topic: str, diff: dict[str, State], presences: dict[str, list[Meta]]) -> Any:
        """`handle_metas/4`: called after `diff` was broadcast; `presences` are all metas of the topic by key.

        May be `async def`. Must return None; anything else ends the presence.
        """

    def handle_diff(self, diff: Diff) -> None:
        for topic, (joins, leaves) in diff.items():
            self._broadcaster.cell.deliver(PresenceDiff(topic, _group(joins), _group(leaves)))

    def _linked_process_ended(self, pid: Pid, reason: Any) -> Coroutine[Any, Any, Any] | None:
        if pid is self._broadcaster:
            return self._stop(reason)
        return super()._linked_process_ended(pid, reason)

    # ---- the broadcasting process

    async def _broadcast_in_order(self) -> None:
        while True:
            change: PresenceDiff = await erlang.receive()
            joins = await _given(self.fetch(change.topic, change.joins))
            leaves = await _given(self.fetch(change.topic, change.leaves))
            diff = {"joins": joins, "leaves": leaves}
            try:
                local_broadcast(self.pubsub, change.topic, "presence_diff", diff)
            except EncodeError:
                # One meta without a JSON form must not end the presence of all others.
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
        grouped.setdefault(to_string(entry.key), {"metas": []})["metas"].append(copied(entry.meta))
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
