"""Addresses outside of all processes: where `ActorSystem.ask` and `listen` get their answers, and the system's own address."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from thespian.actors import ValidatedSource
from thespian.system import isInternalActorSystemMessage

from runtime.core.control_block import Relations
from runtime.core.engine import Engine
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import PendingReply

if TYPE_CHECKING:
    from runtime.thespian.system_base import SystemBase

_SYSTEM_ADDRESS: Final = "/ActorSys"


class Port(Cell):
    """An address outside of all processes: what is sent to it waits for `listen`."""

    __slots__ = ("responses", "waiting")

    def __init__(self, engine: Engine) -> None:
        self.actor = self
        self.execution = engine.rest
        self.relations = Relations(engine.table.reserve())
        self.waiting: Any = False  # a thread sleeps until something comes
        self.responses: deque[Any] = deque()

    def deliver(self, message: Any) -> bool:
        if self.execution.mode == DEAD:
            return False
        if not isInternalActorSystemMessage(message):
            self.responses.append(message)
            if self.waiting:
                self.engine.thespian.driver.tell_waiting()
        return True

    def exit_signal(self, source: Pid, reason: Any, linked: bool) -> None:
        """There is no process here that could end of it."""

    def close(self) -> None:
        """Nothing is kept any more."""
        self.execution = self.execution.engine.dead
        self.responses.clear()


class RequestPort(Port):
    """A port for one answer that code on the loop awaits."""

    __slots__ = ("reply",)

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.reply = PendingReply()

    def deliver(self, message: Any) -> bool:
        if not isInternalActorSystemMessage(message):
            self.reply.resolve(message)
        return True


class SystemPort(Port):
    """The actor system's own address: parent of the primary actors, sender of its messages."""

    __slots__ = ()

    def deliver_from(self, sender: Any, message: Any) -> bool:
        """A validated source counts only if the source authority sends it."""
        sources = self.engine.thespian.sources
        if isinstance(message, ValidatedSource) and sender is sources.authority:
            sources.validated(message)
        return True

    def deliver(self, message: Any) -> bool:
        return True


class ActorRegistry:
    """Actors by the string of their address, as Thespian's tests look them up."""

    def __init__(self, base: SystemBase) -> None:
        self._base = base

    def get(self, address: str, default: Any = None) -> Any:
        """The control block (`.instance` is the actor), or `default`."""
        if address == _SYSTEM_ADDRESS:
            return self._base.system
        parts = address.split(".")
        number = parts[1] if len(parts) == 3 else ""
        return (self._base.engine.table.get(int(number)) if number.isdigit() else None) or default

    def __getitem__(self, address: str) -> Any:
        cell = self.get(address)
        if cell is None:
            raise KeyError(address)
        return cell


class PrivateContext:
    """What `ActorSystem.private()` works through: the same system, another address outside."""

    def __init__(self, base: SystemBase) -> None:
        self._base = base
        self._port = Port(base.engine)

    def tell(self, address: Any, message: Any) -> None:
        """Sends from this context."""
        self._base.tell_from(self._port, address, message)

    def ask(self, address: Any, message: Any, timeout: Any = None) -> Any:
        """Sends from this context and waits for an answer to it."""
        return self._base.ask_from(self._port, address, message, timeout)

    def listen(self, timeout: Any = None) -> Any:
        """Waits for a message to this context."""
        return self._base.driver.listen(self._port, timeout)

    def newPrimaryActor(self, *args: Any) -> Pid:
        """As the system's."""
        return self._base.newPrimaryActor(*args)

    def exit_context(self) -> None:
        """The context's end: its address is dead."""
        self._base.leave_context()
        self._port.close()
