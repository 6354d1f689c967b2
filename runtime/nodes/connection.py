"""The connection to one other node: how it is made and broken, and the signals that processes here send over it.

What is sent while the connection is being made waits in order. When it breaks, or cannot be made, all links and monitors say
`noconnection` and are gone for good: nothing is restored by the next connection. It owns the link to that node and the links
and monitors between processes here and there (`links_and_monitors`); what arrives is performed by `control_messages`.
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
    """A message for the process of this name, on whichever node. Raises TypeError for what cannot travel."""
    return codec.encode([SEND_NAME, name, message])


_log: Final = logging.getLogger("runtime.nodes")


class Connection:
    """This node's side of what binds it to the node `name`. Lives as long as the node; `link.is_up` says if it is up."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.name = name
        self.creation = 0  # of the other node, while up
        self.link = links.Link(
            node.name, node.creation, name, node.key, node.config.net_ticktime, node.engine.unique_bytes
        )
        self._waiting: list[tuple[int | None, bytes, OnFailure | None]] = []  # for the connection to be made
        self._connects: list[PendingReply] = []
        self.relations = LinksAndMonitors()
        self._receiver = Receiver(self)

    # ---- making and ending it

    @property
    def is_up(self) -> bool:
        """True while signals pass."""
        return self.link.is_up

    def connect(self) -> PendingReply:
        """True once it is up, False if it cannot be made."""
        reply = PendingReply()
        if self.is_up or not self._ask():
            reply.resolve(self.is_up)
        else:
            self._connects.append(reply)
        return reply

    def _ask(self) -> bool:
        if self.name == self.node.name or self.node.stopped:
            return False
        self._do(self.link.connect(self.node.engine.now()))
        return True

    def disconnect(self) -> bool:
        """`erlang:disconnect_node/1`: False if there was nothing to end."""
        was_up = self.is_up
        self._do(self.link.disconnect(self.node.engine.now()))
        return was_up

    def received_handshake(self, kind: bytes, fields: list[Any]) -> None:
        """An authentic handshake frame of this node."""
        self._do(self.link.receive_handshake(kind, fields, self.node.engine.now()))

    def received(self, frame: bytes) -> None:
        """A frame of the session that is up."""
        self._do(self.link.receive(frame, self.node.engine.now()))

    def tick(self) -> None:
        """Time has passed."""
        self._do(self.link.tick(self.node.engine.now()))

    def nobody(self) -> None:
        """The fabric says that the other node is not there."""
        self._do(self.link.nobody())

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
            # It is lost, and loss must not be silent. Erlang gives up a connection with a corrupt term as well.
            _log.error("a signal of node %s cannot be read, its connection is given up: %s", self.name, error)
            self._do(self.link.reject())
            return
        self._receiver.perform(message)

    def _up(self, creation: int) -> None:
        self.creation = creation
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
        """Brings a signal to whom it is for: an incarnation of the node, or with None whichever is there."""
        link = self.link
        if link.is_up:
            if creation is None or creation == self.creation:
                self._do(link.send(payload, self.node.engine.now()))
            elif failed is not None:
                failed("noproc")
        elif self.name == self.node.name:
            if failed is not None:
                failed("noproc")  # an earlier incarnation of this node
        elif (self.node.config.auto_connect and self._ask()) or link.is_being_made:
            self._waiting.append((creation, payload, failed))
        elif failed is not None:
            failed("noconnection")

    def encode(self, *signal: Any) -> bytes:
        """The payload of a signal, for `signal`. Raises TypeError for what cannot travel."""
        return self.node.codec.encode(list(signal))

    def _encode_reason(self, *signal: Any) -> bytes:
        return self.node.codec.encode_reason(list(signal))

    def send(self, to: Remote, message: Any) -> None:
        """A message, a call or a request to end."""
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
        """A message that `encoded_for_name` has made, to whichever incarnation is there."""
        self.signal(None, request)

    def send_alias(self, creation: int, number: int, message: Any) -> None:
        """A message to an alias made there."""
        self.signal(creation, self.encode(SEND_ALIAS, number, message))

    def exit(self, to: Remote, source: Pid, reason: Any) -> None:
        """`erlang:exit/2`."""
        self.signal(to.creation, self._encode_reason(EXIT2, source, to.address, reason))

    def link_up(self, remote: Remote, cell: Cell) -> None:
        """`erlang:link/1` by a process of this node."""
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
        """`erlang:unlink/1` by a process of this node."""
        assert isinstance(remote, RemotePid)
        if self.relations.unlink(cell, remote):
            self.signal(remote.creation, self.encode(UNLINK, cell, remote.address))

    def linked_exit(self, remote: Remote, source: Pid, reason: Any) -> None:
        """A process of this node that is linked to one there has ended."""
        assert isinstance(remote, RemotePid) and isinstance(source, Cell)
        if self.relations.unlink(source, remote):
            self.signal(remote.creation, self._encode_reason(EXIT, source, remote.address, reason))

    def monitor(self, to: Remote, monitor: Any) -> None:
        """`monitor.fire(pid, reason)` will be called once."""
        if type(monitor) is Call:
            return  # the request itself has asked for it
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
        """Asks for a process there. `reply` hears by `spawned(pid)` or `fire(None, reason)`.

        Raises TypeError, and asks for nothing, if the arguments cannot travel.
        """
        number = self.relations.next_number()
        watch = None if monitor is None else self.relations.next_number()
        request = self.encode(SPAWN, number, parent, link, watch, function, args)
        reply.watch = watch
        self.relations.monitor(number, reply)
        self.signal(None, request, lambda reason: self.relations.fire(number, reason))

    # ---- answers, and what node says to node

    def down(self, number: int, reason: Any) -> None:
        """Sends a monitor there the end of a process here."""
        self.relations.watched_ended(number)
        if self.is_up:
            self.signal(None, self._encode_reason(DOWN, number, reason))

    def reply(self, number: int, value: Any) -> None:
        """Answers a call from there. A value that cannot travel is the caller's exit, `("unencodable", text)`."""
        self.relations.unwatch(number)
        try:
            answer = self.encode(REPLY, number, value)
        except TypeError as error:
            _log.error("a call from node %s cannot be answered: %s", self.name, error)
            answer = self.encode(DOWN, number, ("unencodable", str(error)))
        self.signal(None, answer)

    def acknowledge_terminate(self, number: int) -> None:
        """The process has taken the request to terminate."""
        if self.is_up:
            self.signal(None, self.encode(TERMINATE_ACK, number))

    def send_nodes(self, names: list[str]) -> None:
        """Names of nodes that this one is connected to."""
        self.signal(None, self.encode(NODES, names))

    def send_lost(self, name: str) -> None:
        """This node has lost its connection to another one."""
        self.signal(None, self.encode(LOST, name))

    def send_probe(self, by: str) -> None:
        """Asks whether the other node is there, of which `by` says that it is not."""
        self.signal(None, self.encode(PROBE, by))
