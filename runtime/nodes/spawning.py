"""Processes on other nodes: `erlang:spawn/4`, `spawn_link/4`, `spawn_monitor/4`, `erlang:spawn_request/5`.

Unlike in Erlang, a node runs only the functions it exports (`Node.export`) for other nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.core.engine import current_engine
from runtime.core.exits import Exit
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.scheduling import PendingReply, current_process
from runtime.core.signals import Monitor
from runtime.core.small_set import including
from runtime.otp import erlang

if TYPE_CHECKING:
    from runtime.nodes.node import Node


class SpawnReply:
    """A spawn request without a reply yet; `linked` is the local process to be linked."""

    __slots__ = ("_done", "linked", "monitor", "watch")

    def __init__(
        self, linked: Cell | None, monitor: Monitor | None, done: Callable[[str, Any], None]
    ) -> None:
        self.linked = linked
        self.monitor = monitor
        self.watch: int | None = None  # the monitor's number on the connection
        self._done = done

    def spawned(self, pid: Any) -> None:
        """The process has been spawned."""
        if self.monitor is not None and self.wants_monitor():
            self.monitor.target = pid
        self._done("ok", pid)

    def wants_monitor(self) -> bool:
        """False if no monitor was requested, or its owner has removed it or has ended."""
        return self.monitor is not None and self.monitor in self.monitor.owner.relations.monitors

    def fire(self, pid: Pid | None, reason: Any) -> None:
        """The request has failed: the node is lost, or has no such function."""
        if self.monitor is not None:
            self.monitor.owner.drop(self.monitor)
        self._done("error", reason)


def _new_monitor(owner: Cell) -> Monitor:
    monitor = Monitor(owner, None, None)
    relations = owner.own_relations()
    relations.monitors = including(relations.monitors, monitor)
    return monitor


def _request(
    node: Node, on: str, function: str, args: tuple[Any, ...], caller: Cell, asked: SpawnReply
) -> None:
    try:
        node.connection(on).spawn(function, args, caller, asked.linked is not None, asked.monitor, asked)
    except TypeError:
        if asked.monitor is not None:
            caller.drop(asked.monitor)
        raise


def _crash(reason: Any) -> NoReturn:
    raise Exit(reason)


async def spawn(on: str, function: str, *args: Any, link: bool = False, monitor: bool = False) -> Any:
    """`erlang:spawn_opt/5`: spawns a process on the node `on` that runs the function exported under this name.

    Returns the pid, or with `monitor` `(pid, ref)`. If the node cannot be reached, or has no such function, the pid is
    that of a local process that has ended with `noconnection` or `undef`, as in Erlang.
    """
    caller = current_process()
    engine = current_engine()
    node = engine.node
    if on == engine.node_name and node is not None and function in node.exports:
        return erlang.spawn(node.exports[function][0], *args, link=link, monitor=monitor)
    reply = PendingReply()
    watch = _new_monitor(caller) if monitor else None
    if node is None or on == node.name:
        reply.resolve(("error", "noconnection" if node is None else "undef"))
    else:
        asked = SpawnReply(caller if link else None, watch, lambda *answer: reply.resolve(answer))
        _request(node, on, function, args, caller, asked)
    status, value = await reply
    if status == "ok":
        return value if watch is None else (value, watch)
    if watch is not None:
        caller.drop(watch)
    return erlang.spawn(_crash, value, link=link, monitor=monitor)


def spawn_request(
    on: str, function: str, *args: Any, link: bool = False, monitor: bool = False, reply: str = "yes"
) -> Ref:
    """`erlang:spawn_request/5`: the caller gets `("spawn_reply", ref, "ok", pid)` or `("spawn_reply", ref, "error", reason)`.

    Returns `ref`, which with `monitor` is also the monitor. `reply` is `yes`, `error_only` or `no`.
    """
    caller = current_process()
    engine = current_engine()
    node = engine.node
    watch = _new_monitor(caller) if monitor else None
    ref: Ref = watch or Ref()

    def done(status: str, value: Any) -> None:
        if reply == "yes" or (reply == "error_only" and status == "error"):
            caller.deliver(("spawn_reply", ref, status, value))

    asked = SpawnReply(caller if link else None, watch, done)
    if node is None:
        asked.fire(None, "noconnection")
    elif on != node.name:
        _request(node, on, function, args, caller, asked)
    elif function not in node.exports:
        asked.fire(None, "undef")
    else:
        body, process = node.exports[function]
        cell = engine.spawn_actor(process(body, args), caller, link)
        if watch is not None:
            watch.target = cell
            cell.add_monitor(watch)
        done("ok", cell)
    return ref
