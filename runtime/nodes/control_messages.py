"""The control messages of the distribution protocol, and the handlers of received ones.

As in Erlang, a control message carries a signal to a process (message, link, monitor, exit, spawn request) or between the nodes
themselves. It is a list `[code, ...]`, encoded by the node's codec. Pids of the receiver are given by their numbers, monitors
and calls by numbers that their owner's node has assigned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.nodes.remote import RemotePid, untie
from runtime.nodes.watchers import RemoteCaller, Terminate, Watch
from runtime.otp.gen import Call

if TYPE_CHECKING:
    from runtime.nodes.connection import Connection

(
    SEND, SEND_NAME, SEND_ALIAS, LINK, UNLINK, EXIT, EXIT2, MONITOR, DEMONITOR, DOWN, CALL, REPLY, TERMINATE, TERMINATE_ACK,
    SPAWN, SPAWNED, NODES, LOST, PROBE, PROBED,
) = range(20)  # fmt: skip


class Receiver:
    """Handles the control messages received over one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.node = connection.node
        self.relations = connection.relations

    def perform(self, message: list[Any]) -> None:
        """Handles one decoded control message."""
        code, *rest = message
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
            self.connection.signal(
                remote.creation, self.connection.encode(EXIT, dead, remote.address, "noproc")
            )
        else:
            self.relations.link(cell, remote)

    def _on_unlink(self, remote: RemotePid, address: int) -> None:
        cell = self._local(address)
        if cell is not None and self.relations.unlink(cell, remote):
            untie(cell, remote)

    def _on_exit(self, remote: RemotePid, address: int, reason: Any) -> None:
        cell = self._local(address)
        if cell is not None and self.relations.unlink(cell, remote):
            cell.exit_signal(remote, reason, True)

    def _on_exit2(self, source: Pid, address: int, reason: Any) -> None:
        cell = self._local(address)
        if cell is not None:
            cell.exit_signal(source, reason, False)

    def _on_monitor(self, address: int | str, number: int) -> None:
        cell = self._local(address)
        if cell is None:
            self.connection.down(number, "noproc")
        else:
            self.relations.watch(cell, number, Watch(self.connection, number))

    def _on_demonitor(self, number: int) -> None:
        self.relations.unwatch(number)

    def _on_down(self, number: int, reason: Any) -> None:
        self.relations.fire(number, reason)

    def _on_call(self, address: int | str, number: int, caller: Pid | None, request: Any) -> None:
        cell = self._local(address)
        if cell is None:
            self.connection.down(number, "noproc")
            return
        call = Call(cell, request, (), True, caller)  # type: ignore[arg-type]
        call.waiter = RemoteCaller(call, self.connection, number)  # type: ignore[assignment]
        if cell.deliver(call):
            self.relations.watch(cell, number, call)
        else:
            self.connection.down(number, "overload")

    def _on_reply(self, number: int, value: Any) -> None:
        call = self.relations.answered(number)
        if isinstance(call, Call):
            call.answer(value)

    def _on_terminate(self, address: int | str, number: int, reason: Any) -> None:
        cell = self._local(address)
        if cell is not None:
            cell.deliver(Terminate(reason, self.connection, number))

    def _on_terminate_ack(self, number: int) -> None:
        self.relations.acknowledged(number)

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
            self.connection.signal(None, self.connection.encode(SPAWNED, number, None, "undef"))
            return
        cell = self.node.spawn_exported(function, args, parent)
        if link:
            assert isinstance(parent, RemotePid)
            self.relations.link(cell, parent)
        if watch is not None:
            self.relations.watch(cell, watch, Watch(self.connection, watch))
        self.connection.signal(None, self.connection.encode(SPAWNED, number, cell, None))

    def _on_spawned(self, number: int, pid: RemotePid | None, reason: Any) -> None:
        reply = self.relations.answered(number)
        if reply is None:
            return
        if pid is None:
            reply.fire(None, reason)
            return
        if reply.wants_monitor():
            self.relations.monitor(reply.watch, reply.monitor)
        elif reply.watch is not None:
            self.connection.signal(None, self.connection.encode(DEMONITOR, reply.watch))
        cell = reply.linked
        if cell is not None and cell.execution.mode != DEAD:
            self.relations.link(cell, pid)
        elif cell is not None:
            self.connection.signal(pid.creation, self.connection.encode(EXIT, cell, pid.address, "noproc"))
        reply.spawned(pid)

    def _on_nodes(self, names: list[str]) -> None:
        self.node.membership.discovered(names)

    def _on_lost(self, name: str) -> None:
        self.node.membership.lost_elsewhere(self.connection.name, name)

    def _on_probe(self, by: str) -> None:
        self.connection.signal(None, self.connection.encode(PROBED, by))

    def _on_probed(self, by: str) -> None:
        self.node.membership.partitioned(by, self.connection.name)

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
