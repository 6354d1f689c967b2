"""`net_kernel`, and the functions of `erlang` and `net_adm` about nodes, for the node of the running process.

Without a node (`engine.node` is None) they behave as on `nonode@nohost`: there are no other nodes, and none can be connected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from runtime.core.engine import current_engine
from runtime.core.exits import Error
from runtime.core.pid import Pid, Ref
from runtime.core.scheduling import current_process, scheduler
from runtime.nodes.node import Node
from runtime.nodes.remote import Remote, RemoteRef
from runtime.otp import erlang


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A connection that is up: for how many seconds, and what it has carried since."""

    name: str
    seconds: float
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int


def this_node() -> Node | None:
    """The node of the running process; None if its engine is not a node."""
    return current_engine().node


def node(of: Pid | Ref | None = None) -> str:
    """`erlang:node/0,1`: the name of this node, or of the node where a pid or reference was created."""
    return of.node_name if isinstance(of, Remote | RemoteRef) else current_engine().node_name


def nodes() -> list[str]:
    """`erlang:nodes/0`: the connected nodes, sorted."""
    me = this_node()
    return [] if me is None else me.nodes()


def nodes_info() -> list[NodeInfo]:
    """`net_kernel:nodes_info/0`: one entry for each connection that is up, by name. Bytes and seconds are additions."""
    me = this_node()
    if me is None:
        return []
    now = me.engine.now()
    links = [(connection.name, connection.link) for connection in me.connections()]
    return [
        NodeInfo(name, now - link.up_at, link.frames_in, link.frames_out, link.bytes_in, link.bytes_out)
        for name, link in links
    ]


async def connect_node(name: str) -> bool:
    """`net_kernel:connect_node/1`."""
    me = this_node()
    return me is not None and await me.connect(name)


async def ping(name: str) -> Literal["pong", "pang"]:
    """`net_adm:ping/1`."""
    return "pong" if await connect_node(name) else "pang"


def disconnect_node(name: str) -> bool:
    """`erlang:disconnect_node/1`: False if it was not connected. A broken link may end the caller within this call."""
    me, caller = this_node(), scheduler.current
    done = me is not None and me.disconnect(name)
    if caller is not None:
        caller.handle_signals()
    return done


def monitor_node(name: str, flag: bool) -> Literal[True]:
    """`erlang:monitor_node/2`: the caller gets `("nodedown", name)` once per True, soon if the node cannot be reached."""
    me, caller = this_node(), current_process()
    if me is None:
        raise Error("notalive")
    me.membership.monitor_node(caller, name, flag)
    return True


def monitor_nodes(
    flag: bool, options: Iterable[str] | None = None
) -> Literal["ok"] | tuple[str, tuple[str, list[Any]]]:
    """`net_kernel:monitor_nodes/1,2`: the caller gets `("nodeup", name)` and `("nodedown", name)`.

    With `options` (`["nodedown_reason"]`) they are triples, with a list of `(option, value)`. Returns
    `("error", ("unknown_options", options))` for other options.
    """
    me, caller = this_node(), current_process()
    given = tuple(options or ())
    unknown = [option for option in given if option != "nodedown_reason"]
    if unknown:
        return ("error", ("unknown_options", unknown))
    if me is not None:
        me.membership.monitor_nodes(caller, flag, given[:1] or None)
    return "ok"


def send(dest: erlang.Dest, message: Any, options: Collection[str] = ()) -> Literal["ok", "noconnect"]:
    """`erlang:send/3`. With the option `noconnect` it makes no connection.

    It then returns "noconnect", and sends nothing, unless a connection is up or being made. Raises Error("badarg") for an option
    other than `noconnect` and `nosuspend`.
    """
    if any(option not in ("noconnect", "nosuspend") for option in options):
        raise Error("badarg")
    if "noconnect" in options:
        name = None
        if isinstance(dest, Remote | RemoteRef):
            name = dest.node_name
        elif isinstance(dest, tuple) and len(dest) == 2:
            name = dest[1]
        me = this_node()
        if name is not None and me is not None and name != me.name and not me.reaches(name):
            return "noconnect"
    erlang.send(dest, message)
    return "ok"
