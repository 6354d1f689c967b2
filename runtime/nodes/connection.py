"""The connection to one other node: what goes over it, and who is notified when it breaks.

It owns the link to that node, the links and monitors between processes here and there, and the calls and spawns that wait for
an answer. What is sent while the connection is being made waits in order. When it breaks, or cannot be made, all
links and monitors say `noconnection` and are gone for good: nothing is restored by the next connection.

A signal is a list, `[code, ...]`, encoded by the node's codec; pids of the receiving side go by their numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakValueDictionary

from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import PendingReply
from runtime.core.signals import SystemMessage
from runtime.nodes import link as links
from runtime.nodes.codec import Codec
from runtime.nodes.remote import Remote, RemotePid, tie, untie
from runtime.nodes.watchers import RemoteCaller, Terminate, Watch
from runtime.otp.gen import Call, TerminateRequest

if TYPE_CHECKING:
    from runtime.nodes.node import Node

(
    SEND, SEND_NAME, SEND_ALIAS, LINK, UNLINK, EXIT, EXIT2, MONITOR, DEMONITOR, DOWN, CALL, REPLY, TERMINATE, TERMINATE_ACK,
    SPAWN, SPAWNED, NODES, LOST, PROBE, PROBED,
) = range(20)  # fmt: skip

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
        self._links: dict[tuple[Cell, RemotePid], None] = {}
        self._numbers = 0
        self._asked: dict[int, Any] = {}  # number -> monitor, call, ... here that waits for one there
        self._asked_numbers: dict[Any, int] = {}
        self._terminates: WeakValueDictionary[int, TerminateRequest] = WeakValueDictionary()
        self._watches: dict[int, tuple[Cell, Any]] = {}  # of theirs on ours

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
                    self._take(payload)
                case links.LinkUp(creation):
                    self._up(creation)
                case links.LinkDown(reason):
                    self._down(reason)

    def _up(self, creation: int) -> None:
        self.creation = creation
        connects, self._connects = self._connects, []
        waiting, self._waiting = self._waiting, []
        session = self.link.session
        assert session is not None
        self.node.connected(self, session.id)
        for signal in waiting:
            self._signal(*signal)
        for reply in connects:
            reply.resolve(True)

    def _down(self, reason: str) -> None:
        """Everything that bound processes here to processes there is over. The links first, as EXIT comes before DOWN."""
        was_up, self.creation = self.creation != 0, 0
        connects, self._connects = self._connects, []
        waiting, self._waiting = self._waiting, []
        linked, self._links = self._links, {}
        asked, self._asked, self._asked_numbers = self._asked, {}, {}
        watches, self._watches = self._watches, {}
        for cell, watch in watches.values():
            cell.drop_monitor(watch)
        for cell, remote in linked:
            cell.exit_signal(remote, "noconnection", True)
        for monitor in asked.values():
            monitor.fire(getattr(monitor, "target", None), "noconnection")
        for _, _, failed in waiting:
            if failed is not None:
                failed("noconnection")
        self.node.disconnected(self, reason, was_up)
        for reply in connects:
            reply.resolve(False)

    # ---- signals to processes there

    def _signal(self, creation: int | None, payload: bytes, failed: OnFailure | None = None) -> None:
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

    def _encode(self, *signal: Any) -> bytes:
        return self.node.codec.encode(list(signal))

    def _encode_reason(self, *signal: Any) -> bytes:
        return self.node.codec.encode_reason(list(signal))

    def send(self, to: Remote, message: Any) -> None:
        """A message, a call or a request to end."""
        if type(message) is Call:
            number = self._next_number()
            request = self._encode(CALL, to.address, number, message.caller, message.request)
            self._await(number, message)
            self._signal(to.creation, request, lambda reason: self._fire(number, reason))
        elif isinstance(message, TerminateRequest):
            number = self._next_number()
            self._terminates[number] = message
            request = self._encode_reason(TERMINATE, to.address, number, message.reason)
            self._signal(to.creation, request)
        elif isinstance(message, SystemMessage):
            raise TypeError(f"a {type(message).__name__} of sys cannot be sent to another node")
        else:
            code = SEND if isinstance(to.address, int) else SEND_NAME
            self._signal(to.creation, self._encode(code, to.address, message))

    def send_encoded(self, request: bytes) -> None:
        """A message that `encoded_for_name` has made, to whichever incarnation is there."""
        self._signal(None, request)

    def send_alias(self, creation: int, number: int, message: Any) -> None:
        """A message to an alias made there."""
        self._signal(creation, self._encode(SEND_ALIAS, number, message))

    def exit(self, to: Remote, source: Pid, reason: Any) -> None:
        """`erlang:exit/2`."""
        self._signal(to.creation, self._encode_reason(EXIT2, source, to.address, reason))

    def link_up(self, remote: Remote, cell: Cell) -> None:
        """`erlang:link/1` by a process of this node."""
        assert isinstance(remote, RemotePid)
        if (cell, remote) in self._links:
            return
        self._links[cell, remote] = None
        tie(cell, remote)
        self._signal(
            remote.creation,
            self._encode(LINK, cell, remote.address),
            lambda reason: self._link_failed(cell, remote, reason),
        )

    def _link_failed(self, cell: Cell, remote: RemotePid, reason: str) -> None:
        self._links.pop((cell, remote), None)
        cell.exit_signal(remote, reason, True)

    def unlink(self, remote: Remote, cell: Cell) -> None:
        """`erlang:unlink/1` by a process of this node."""
        assert isinstance(remote, RemotePid)
        if self._links.pop((cell, remote), self) is None:
            self._signal(remote.creation, self._encode(UNLINK, cell, remote.address))

    def linked_exit(self, remote: Remote, source: Pid, reason: Any) -> None:
        """A process of this node that is linked to one there has ended."""
        assert isinstance(remote, RemotePid) and isinstance(source, Cell)
        if self._links.pop((source, remote), self) is None:
            self._signal(remote.creation, self._encode_reason(EXIT, source, remote.address, reason))

    def monitor(self, to: Remote, monitor: Any) -> None:
        """`monitor.fire(pid, reason)` will be called once."""
        if type(monitor) is Call:
            return  # the request itself has asked for it
        number = self._next_number()
        self._await(number, monitor)
        self._signal(
            to.creation, self._encode(MONITOR, to.address, number), lambda reason: self._fire(number, reason)
        )

    def demonitor(self, monitor: Any) -> None:
        """Takes back `monitor`."""
        number = self._asked_numbers.pop(monitor, None)
        if number is not None:
            del self._asked[number]
            if self.is_up:
                self._signal(None, self._encode(DEMONITOR, number))

    def spawn(
        self, function: str, args: tuple[Any, ...], parent: Pid | None, link: bool, monitor: Any, reply: Any
    ) -> None:
        """Asks for a process there. `reply` hears by `spawned(pid)` or `fire(None, reason)`.

        Raises TypeError, and asks for nothing, if the arguments cannot travel.
        """
        number = self._next_number()
        watch = None if monitor is None else self._next_number()
        request = self._encode(SPAWN, number, parent, link, watch, function, args)
        reply.watch = watch
        self._await(number, reply)
        self._signal(None, request, lambda reason: self._fire(number, reason))

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _await(self, number: int, monitor: Any) -> None:
        self._asked[number] = monitor
        self._asked_numbers[monitor] = number

    def _answered(self, number: int) -> Any:
        monitor = self._asked.pop(number, None)
        if monitor is not None:
            del self._asked_numbers[monitor]
        return monitor

    def _fire(self, number: int, reason: Any) -> None:
        monitor = self._answered(number)
        if monitor is not None:
            monitor.fire(getattr(monitor, "target", None), reason)

    # ---- signals from processes there

    def _take(self, payload: memoryview) -> None:
        try:
            code, *rest = self.node.codec.decode(payload)
        except (ValueError, RecursionError) as error:
            # It is lost, and loss must not be silent. Erlang gives up a connection with a corrupt term as well.
            _log.error("a signal of node %s cannot be read, its connection is given up: %s", self.name, error)
            self._do(self.link.reject())
            return
        self._HANDLERS[code](self, *rest)

    def _local(self, address: int | str) -> Cell | None:
        engine = self.node.engine
        return engine.names.get(address) if isinstance(address, str) else engine.table.get(address)

    def _on_send(self, address: int | str, message: Any) -> None:
        cell = self._local(address)
        if cell is not None:
            cell.deliver(message)

    def _on_send_alias(self, number: int, message: Any) -> None:
        self.node.deliver_to_alias(number, message)

    def _on_link(self, remote: RemotePid, address: int) -> None:
        cell = self._local(address)
        if cell is None:
            dead = self.node.pid_named(self.node.name, self.node.creation, address)
            self._signal(remote.creation, self._encode(EXIT, dead, remote.address, "noproc"))
        else:
            self._links[cell, remote] = None
            tie(cell, remote)

    def _on_unlink(self, remote: RemotePid, address: int) -> None:
        cell = self._local(address)
        if cell is not None and self._links.pop((cell, remote), self) is None:
            untie(cell, remote)

    def _on_exit(self, remote: RemotePid, address: int, reason: Any) -> None:
        cell = self._local(address)
        if cell is not None and self._links.pop((cell, remote), self) is None:
            cell.exit_signal(remote, reason, True)

    def _on_exit2(self, source: Pid, address: int, reason: Any) -> None:
        cell = self._local(address)
        if cell is not None:
            cell.exit_signal(source, reason, False)

    def _on_monitor(self, address: int | str, number: int) -> None:
        cell = self._local(address)
        if cell is None:
            self.down(number, "noproc")
        else:
            self._watch(cell, number, Watch(self, number))

    def _watch(self, cell: Cell, number: int, watch: Any) -> None:
        self._watches[number] = (cell, watch)
        cell.add_monitor(watch)

    def _on_demonitor(self, number: int) -> None:
        watched = self._watches.pop(number, None)
        if watched is not None:
            cell, watch = watched
            cell.drop_monitor(watch)

    def _on_down(self, number: int, reason: Any) -> None:
        self._fire(number, reason)

    def _on_call(self, address: int | str, number: int, caller: Pid | None, request: Any) -> None:
        cell = self._local(address)
        if cell is None:
            self.down(number, "noproc")
            return
        call = Call(cell, request, (), True, caller)  # type: ignore[arg-type]
        call.waiter = RemoteCaller(call, self, number)  # type: ignore[assignment]
        if cell.deliver(call):
            self._watch(cell, number, call)
        else:
            self.down(number, "overload")

    def _on_reply(self, number: int, value: Any) -> None:
        call = self._answered(number)
        if isinstance(call, Call):
            call.answer(value)

    def _on_terminate(self, address: int | str, number: int, reason: Any) -> None:
        cell = self._local(address)
        if cell is not None:
            cell.deliver(Terminate(reason, self, number))

    def _on_terminate_ack(self, number: int) -> None:
        request = self._terminates.pop(number, None)
        if request is not None:
            request.heard = True

    def _on_spawn(
        self,
        number: int,
        parent: Pid | None,
        link: bool,
        watch: int | None,
        function: str,
        args: tuple[Any, ...],
    ) -> None:
        if function not in self.node.exports:
            self._signal(None, self._encode(SPAWNED, number, None, "undef"))
            return
        cell = self.node.spawn_exported(function, args, parent)
        if link:
            assert isinstance(parent, RemotePid)
            self._links[cell, parent] = None
            tie(cell, parent)
        if watch is not None:
            self._watch(cell, watch, Watch(self, watch))
        self._signal(None, self._encode(SPAWNED, number, cell, None))

    def _on_spawned(self, number: int, pid: RemotePid | None, reason: Any) -> None:
        reply = self._answered(number)
        if reply is None:
            return
        if pid is None:
            reply.fire(None, reason)
            return
        if reply.wants_monitor():
            self._await(reply.watch, reply.monitor)
        elif reply.watch is not None:
            self._signal(None, self._encode(DEMONITOR, reply.watch))
        cell = reply.linked
        if cell is not None and cell.execution.mode != DEAD:
            self._links[cell, pid] = None
            tie(cell, pid)
        elif cell is not None:
            self._signal(pid.creation, self._encode(EXIT, cell, pid.address, "noproc"))
        reply.spawned(pid)

    # ---- answers to nodes

    def down(self, number: int, reason: Any) -> None:
        """Sends a monitor there the end of a process here."""
        self._watches.pop(number, None)
        if self.is_up:
            self._signal(None, self._encode_reason(DOWN, number, reason))

    def reply(self, number: int, value: Any) -> None:
        """Answers a call from there. A value that cannot travel is the caller's exit, `("unencodable", text)`."""
        watched = self._watches.pop(number, None)
        if watched is not None:
            watched[0].drop_monitor(watched[1])
        try:
            answer = self._encode(REPLY, number, value)
        except TypeError as error:
            _log.error("a call from node %s cannot be answered: %s", self.name, error)
            answer = self._encode(DOWN, number, ("unencodable", str(error)))
        self._signal(None, answer)

    def acknowledge_terminate(self, number: int) -> None:
        """The process has taken the request to terminate."""
        if self.is_up:
            self._signal(None, self._encode(TERMINATE_ACK, number))

    def send_nodes(self, names: list[str]) -> None:
        """Names of nodes that this one is connected to."""
        self._signal(None, self._encode(NODES, names))

    def send_lost(self, name: str) -> None:
        """This node has lost its connection to another one."""
        self._signal(None, self._encode(LOST, name))

    def send_probe(self, by: str) -> None:
        """Asks whether the other node is there, of which `by` says that it is not."""
        self._signal(None, self._encode(PROBE, by))

    def _on_nodes(self, names: list[str]) -> None:
        self.node.membership.discovered(names)

    def _on_lost(self, name: str) -> None:
        self.node.membership.lost_elsewhere(self.name, name)

    def _on_probe(self, by: str) -> None:
        self._signal(None, self._encode(PROBED, by))

    def _on_probed(self, by: str) -> None:
        self.node.membership.partitioned(by, self.name)

    _HANDLERS: ClassVar[dict[int, Callable[..., None]]] = {
        SEND: _on_send,
        SEND_NAME: _on_send,
        SEND_ALIAS: _on_send_alias,
        LINK: _on_link,
        UNLINK: _on_unlink,
        EXIT: _on_exit,
        EXIT2: _on_exit2,
        MONITOR: _on_monitor,
        DEMONITOR: _on_demonitor,
        DOWN: _on_down,
        CALL: _on_call,
        REPLY: _on_reply,
        TERMINATE: _on_terminate,
        TERMINATE_ACK: _on_terminate_ack,
        SPAWN: _on_spawn,
        SPAWNED: _on_spawned,
        NODES: _on_nodes,
        LOST: _on_lost,
        PROBE: _on_probe,
        PROBED: _on_probed,
    }
