"""The connection to one other node: set-up, loss, and the signals that local processes send over it.

Signals sent during set-up are queued in order. When the connection is lost, or cannot be made, all links and monitors over it
fire with `noconnection`; the next connection does not restore them.

It owns the `Link` to the other node, and the links and monitors between the processes of both (`links_and_monitors`). Received
signals are handled by `control_messages`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import PendingReply
from runtime.core.signals import SystemMessage
from runtime.nodes import link as links
from runtime.nodes.codec import Codec
from runtime.nodes.control_messages import (
    CALL,
    DEMONITOR,
    DOWN,
    EXIT,
    EXIT2,
    LINK,
    LOST,
    MONITOR,
    NODES,
    PROBE,
    REPLY,
    SEND,
    SEND_ALIAS,
    SEND_NAME,
    SPAWN,
    TERMINATE,
    TERMINATE_ACK,
    UNLINK,
    Receiver,
)
from runtime.nodes.links_and_monitors import LinksAndMonitors
from runtime.nodes.remote import Remote, RemotePid
from runtime.otp.gen import Call, TerminateRequest

if TYPE_CHECKING:
    from runtime.nodes.node import Node

OnFailure = Callable[[str], None]


def encoded_for_name(codec: Codec, name: str, message: Any) -> bytes:
    """A message for the process registered under `name` on any node. Raises TypeError for what cannot be encoded."""
    return codec.encode([SEND_NAME, name, message])


_log: Final = logging.getLogger("runtime.nodes")


class Connection:
    """This node's side of the connection to the node `name`. The object outlives the connection; `is_up` tells its state."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.name = name
        self.creation = 0  # of the other node, while up
        self.link = links.Link(
            node.name, node.creation, name, node.key, node.config.net_ticktime, node.engine.unique_bytes
        )
        self._waiting: list[tuple[int | None, bytes, OnFailure | None]] = []  # signals sent during set-up
        self._connects: list[PendingReply] = []
        self.relations = LinksAndMonitors()
        self._receiver = Receiver(self)

    # ---- set-up and loss

    @property
    def is_up(self) -> bool:
        """True while the nodes are connected."""
        return self.link.is_up

    def connect(self) -> PendingReply:
        """Connects. The reply is True once the connection is up, False if it cannot be made."""
        reply = PendingReply()
        if self.is_up or not self._start():
            reply.resolve(self.is_up)
        else:
            self._connects.append(reply)
        return reply

    def _start(self) -> bool:
        if self.name == self.node.name or self.node.stopped:
            return False
        self._do(self.link.connect(self.node.engine.now()))
        return True

    def disconnect(self, as_other: bool = False) -> bool:
        """`erlang:disconnect_node/1`: False if the nodes were not connected. `as_other`: as if the other node had called it."""
        was_up = self.is_up
        self._do(self.link.disconnect(self.node.engine.now(), as_other))
        return was_up

    def received_handshake(self, kind: bytes, fields: list[Any]) -> None:
        """Handles an authentic handshake frame from the other node."""
        self._do(self.link.receive_handshake(kind, fields, self.node.engine.now()))

    def received(self, frame: bytes) -> None:
        """Handles a frame of the current session."""
        self._do(self.link.receive(frame, self.node.engine.now()))

    def tick(self) -> None:
        """To be called every quarter of `net_ticktime`."""
        self._do(self.link.tick(self.node.engine.now()))

    def unreachable(self) -> None:
        """The fabric reports that the other node is not there."""
        self._do(self.link.unreachable())

    def _do(self, events: list[links.Event]) -> None:
        for event in events:
            match event:
                case links.Send(frame):
                    self.node.fabric.publish(self.name, frame)
                case links.Deliver(payload):
                    self._deliver(payload)
                case links.LinkUp(creation):
                    self._up(creation)
                case links.LinkDown(reason):
                    self._down(reason)

    def _deliver(self, payload: memoryview) -> None:
        try:
            message = self.node.codec.decode(payload)
        except (ValueError, RecursionError) as error:
            # Losing a signal silently would break the delivery guarantee. Erlang disconnects on a corrupt term as well.
            _log.error("a signal of node %s cannot be read, its connection is given up: %s", self.name, error)
            self._do(self.link.reject())
            return
        self._receiver.perform(message)

    def _up(self, creation: int) -> None:
        self.creation = creation
        self.node.connections_changed()
        connects, self._connects = self._connects, []
        waiting, self._waiting = self._waiting, []
        session = self.link.session
        assert session is not None
        self.node.connected(self, session.id)
        for signal in waiting:
            self.signal(*signal)
        for reply in connects:
            reply.resolve(True)

    def _down(self, reason: str) -> None:
        was_up, self.creation = self.creation != 0, 0
        self.node.connections_changed()
        connects, self._connects = self._connects, []
        waiting, self._waiting = self._waiting, []
        self.relations.lost()
        for _, _, failed in waiting:
            if failed is not None:
                failed("noconnection")
        self.node.disconnected(self, reason, was_up)
        for reply in connects:
            reply.resolve(False)

    # ---- signals to processes there

    def signal(self, creation: int | None, payload: bytes, failed: OnFailure | None = None) -> None:
        """Sends a signal to one incarnation of the node, or with `creation` None to the current one.

        Connects first if `auto_connect` allows. `failed` is called with `noproc` or `noconnection` if it cannot be sent.
        """
        link = self.link
        if link.is_up:
            if creation is None or creation == self.creation:
                self._do(link.send(payload, self.node.engine.now()))
            elif failed is not None:
                failed("noproc")
        elif self.name == self.node.name:
            if failed is not None:
                failed("noproc")  # an earlier incarnation of this node
        elif (self.node.config.auto_connect and self._start()) or link.is_being_made:
            self._waiting.append((creation, payload, failed))
        elif failed is not None:
            failed("noconnection")

    def encode(self, *signal: Any) -> bytes:
        """Encodes a control message for `signal`. Raises TypeError for what cannot be sent to another node."""
        return self.node.codec.encode(list(signal))

    def _encode_reason(self, *signal: Any) -> bytes:
        return self.node.codec.encode_reason(list(signal))

    def send(self, to: Remote, message: Any) -> None:
        """Sends a message, a call or a request to terminate."""
        if type(message) is Call:
            number = self.relations.next_number()
            request = self.encode(CALL, to.address, number, message.caller, message.request)
            self.relations.monitor(number, message)
            self.signal(to.creation, request, lambda reason: self.relations.fire(number, reason))
        elif isinstance(message, TerminateRequest):
            number = self.relations.terminating(message)
            request = self._encode_reason(TERMINATE, to.address, number, message.reason)
            self.signal(to.creation, request)
        elif isinstance(message, SystemMessage):
            raise TypeError(f"a {type(message).__name__} of sys cannot be sent to another node")
        else:
            code = SEND if isinstance(to.address, int) else SEND_NAME
            self.signal(to.creation, self.encode(code, to.address, message))

    def send_encoded(self, request: bytes) -> None:
        """Sends what `encoded_for_name` returned, to the current incarnation."""
        self.signal(None, request)

    def send_alias(self, creation: int, number: int, message: Any) -> None:
        """Sends a message to an alias created there."""
        self.signal(creation, self.encode(SEND_ALIAS, number, message))

    def exit(self, to: Remote, source: Pid, reason: Any) -> None:
        """`erlang:exit/2`."""
        self.signal(to.creation, self._encode_reason(EXIT2, source, to.address, reason))

    def link_up(self, remote: Remote, cell: Cell) -> None:
        """`erlang:link/1` by a local process."""
        assert isinstance(remote, RemotePid)
        if self.relations.link(cell, remote):
            self.signal(
                remote.creation,
                self.encode(LINK, cell, remote.address),
                lambda reason: self._link_failed(cell, remote, reason),
            )

    def _link_failed(self, cell: Cell, remote: RemotePid, reason: str) -> None:
        self.relations.unlink(cell, remote)
        cell.exit_signal(remote, reason, True)

    def unlink(self, remote: Remote, cell: Cell) -> None:
        """`erlang:unlink/1` by a local process."""
        assert isinstance(remote, RemotePid)
        if self.relations.unlink(cell, remote):
            self.signal(remote.creation, self.encode(UNLINK, cell, remote.address))

    def linked_exit(self, remote: Remote, source: Pid, reason: Any) -> None:
        """A local process with a link to one there has ended."""
        assert isinstance(remote, RemotePid) and isinstance(source, Cell)
        if self.relations.unlink(source, remote):
            self.signal(remote.creation, self._encode_reason(EXIT, source, remote.address, reason))

    def monitor(self, to: Remote, monitor: Any) -> None:
        """`monitor.fire(pid, reason)` will be called once: see `Remote.add_monitor`."""
        if type(monitor) is Call:
            return  # the CALL message includes the monitor
        number = self.relations.next_number()
        self.relations.monitor(number, monitor)
        self.signal(
            to.creation,
            self.encode(MONITOR, to.address, number),
            lambda reason: self.relations.fire(number, reason),
        )

    def demonitor(self, monitor: Any) -> None:
        """Takes back `monitor`."""
        number = self.relations.withdraw(monitor)
        if number is not None and self.is_up:
            self.signal(None, self.encode(DEMONITOR, number))

    def spawn(
        self, function: str, args: tuple[Any, ...], parent: Pid | None, link: bool, monitor: Any, reply: Any
    ) -> None:
        """Requests a process there. Then `reply.spawned(pid)` or `reply.fire(None, reason)` is called.

        Raises TypeError, and sends nothing, if the arguments cannot be sent to another node.
        """
        number = self.relations.next_number()
        watch = None if monitor is None else self.relations.next_number()
        request = self.encode(SPAWN, number, parent, link, watch, function, args)
        reply.watch = watch
        self.relations.monitor(number, reply)
        self.signal(None, request, lambda reason: self.relations.fire(number, reason))

    # ---- replies, and messages between the nodes themselves

    def down(self, number: int, reason: Any) -> None:
        """Fires a monitor there: the local process has ended."""
        self.relations.watched_ended(number)
        if self.is_up:
            self.signal(None, self._encode_reason(DOWN, number, reason))

    def reply(self, number: int, value: Any) -> None:
        """Replies to a call from there. If the value cannot be encoded, the caller exits with `("unencodable", text)`."""
        self.relations.unwatch(number)
        try:
            answer = self.encode(REPLY, number, value)
        except TypeError as error:
            _log.error("a call from node %s cannot be answered: %s", self.name, error)
            answer = self.encode(DOWN, number, ("unencodable", str(error)))
        self.signal(None, answer)

    def acknowledge_terminate(self, number: int) -> None:
        """A local process has accepted a request to terminate."""
        if self.is_up:
            self.signal(None, self.encode(TERMINATE_ACK, number))

    def send_nodes(self, names: list[str]) -> None:
        """Sends the names of the nodes that this one is connected to."""
        self.signal(None, self.encode(NODES, names))

    def send_lost(self, name: str) -> None:
        """Reports that this node has lost its connection to the node `name`."""
        self.signal(None, self.encode(LOST, name))

    def send_probe(self, by: str) -> None:
        """Probes the other node, which the node `by` has reported as lost."""
        self.signal(None, self.encode(PROBE, by))
