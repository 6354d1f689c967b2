"""The supervisor of a tracker's shards on one node, with the API of `Phoenix.Tracker`.

A `TrackerPool` has the registered name of the tracker. It starts `pool_size` shards, `NAME_shard0` and so on (one_for_one, at
most two restarts per shard and second). A topic belongs to the shard `phash2(topic, pool_size)`, so the pool size must be the
same on all nodes. With `permdown_on_shutdown` its last child tells the other nodes when it is shut down.

The functions act directly on the tables of the shards. They raise Error("noproc") while a shard does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from runtime.core.engine import current_engine
from runtime.core.exits import Error
from runtime.core.pid import Pid
from runtime.otp import erlang
from runtime.otp.callback import Stop
from runtime.otp.child_spec import ChildSpec, SupFlags
from runtime.otp.gen_server import GenServer, start_actor
from runtime.otp.supervisor import Supervisor
from runtime.phoenix.phash2 import phash2
from runtime.phoenix.tracker_shard import Options
from runtime.phoenix.tracker_state import Meta, Replica

if TYPE_CHECKING:
    from runtime.phoenix.tracker import Tracker

_STOP = ("stop", "graceful_permdown")


class TrackerPool(Supervisor):
    """The supervisor, started by `Tracker.start_link` and found by `whereis`."""

    def init(  # type: ignore[override]
        self, tracker: type[Tracker], args: tuple[Any, ...], arguments: Mapping[str, Any] | None = None
    ) -> Any:
        self.tracker = tracker
        name = self._myRef.relations.name
        if name is None:
            raise TypeError("a tracker needs a name, by which its shards on all nodes find each other")
        given = dict(arguments or {})
        options = _options(args, given)
        self._names = [f"{name}_shard{number}" for number in range(options.pool_size)]
        children = [self._shard_spec(shard, args, given) for shard in self._names]
        if options.permdown_on_shutdown:
            handler = partial(ShutdownHandler.start_link, self)
            children.append(ChildSpec("shutdown_handler", (handler, ())))
        return SupFlags(intensity=2 * options.pool_size, period=1), children

    def _shard_spec(self, name: str, args: tuple[Any, ...], arguments: Mapping[str, Any]) -> ChildSpec:
        async def start_link() -> Pid | None:
            return await start_actor(self.tracker(), args, link=True, name=name, kwargs=dict(arguments))

        return ChildSpec(name, (start_link, ()), "transient", modules=(self.tracker,))

    async def handle_info(self, message: Any) -> Any:
        if message == _STOP:
            return Stop("normal")
        return await super().handle_info(message)

    # ---- the API

    def shard(self, topic: str) -> Tracker:
        """The shard of a topic."""
        return _running(self._names[phash2(topic, len(self._names))])

    def shards(self) -> list[Tracker]:
        """All shards of this node."""
        return [_running(name) for name in self._names]

    def track(self, pid: Pid, topic: str, key: Hashable, meta: Meta) -> str:
        """`track/4`: tracks a process in a topic under `key`. Returns the `phx_ref`.

        The join has been reported on this node when it returns. Raises AlreadyTracked. A dead process joins and leaves.
        """
        return self.shard(topic).track(pid, topic, key, meta)

    def update(self, pid: Pid, topic: str, key: Hashable, meta: Meta | Callable[[Meta], Meta]) -> str:
        """`update/4`: replaces a meta, or changes it by a function, in one diff with a leave and a join. Raises NoPresence."""
        return self.shard(topic).update(pid, topic, key, meta)

    def untrack(self, pid: Pid, topic: str | None = None, key: Hashable = None) -> None:
        """`untrack/3`: removes the presence of a process under `key`, or with `untrack(pid)` all its presences, if any."""
        for shard in self.shards() if topic is None else [self.shard(topic)]:
            shard.untrack(pid, topic, key)

    def list(self, topic: str) -> Any:
        """`list/2`: (key, meta) of the presences of a topic, without those of nodes that are down.

        For a Presence `list/1`: the dict of "presence_state", or an awaitable if its `fetch` is `async def`.
        """
        return self.shard(topic).list(topic)

    def dirty_list(self, topic: str) -> list[tuple[Hashable, Meta]]:
        """`dirty_list/2`: as `list` of a tracker, including nodes that are down."""
        return self.shard(topic).dirty_list(topic)

    def get_by_key(self, topic: str, key: Hashable) -> Any:
        """`get_by_key/3`: (pid, meta) of the presences under a key.

        For a Presence `{"metas": [...]}`, or an empty list if there is none; an awaitable if its `fetch` is `async def`.
        """
        return self.shard(topic).get_by_key(topic, key)

    def graceful_permdown(self) -> None:
        """`graceful_permdown/1`: tells all nodes that this one is permanently down, and ends the tracker ("normal")."""
        self.tell_permdown()
        self._myRef.deliver(_STOP)

    def tell_permdown(self) -> None:
        """Tells all nodes that the shards of this one are permanently down, and ends the shards."""
        for shard in self.shards():
            shard.graceful_permdown()

    def replicas(self) -> dict[Replica, bool]:
        """The replicas on other nodes, and whether each is up."""
        return {replica: up for shard in self.shards() for replica, up in shard.replicas().items()}


class ShutdownHandler(GenServer):
    """`Phoenix.Tracker.ShutdownHandler`: the last child, stopped first, while the shards are still running."""

    def init(self, pool: TrackerPool) -> None:
        self._pool = pool
        erlang.trap_exit(True)

    def terminate(self, reason: Any) -> None:
        self._pool.tell_permdown()


def _options(args: tuple[Any, ...], arguments: Mapping[str, Any]) -> Options:
    """The options in the arguments of a tracker's `init`. Raises ValueError for invalid ones."""
    for given in (*args, *arguments.values()):
        if isinstance(given, Options):
            return given
    return Options(**{key: value for key, value in arguments.items() if key in Options.__dataclass_fields__})


def _running(name: str) -> Tracker:
    cell = current_engine().names.get(name)
    if cell is None:
        raise Error("noproc")
    return cell.actor


def whereis(name: str) -> TrackerPool:
    """The tracker registered under a name. Raises Error("noproc") if it does not run."""
    cell = current_engine().names.get(name)
    if cell is None or not isinstance(cell.actor, TrackerPool):
        raise Error("noproc")
    return cell.actor
