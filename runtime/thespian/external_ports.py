"""Addresses outside of processes: for the responses of `ActorSystem.ask` and `listen`, and of the system itself."""

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
    """An address outside of processes, whose messages wait for `listen`."""

    __slots__ = ("responses", "waiting")

    def __init__(self, engine: Engine) -> None:
        self.actor = self
        self.execution = engine.rest
        self.relations = Relations(engine.table.reserve())
        self.waiting: Any = False  # a thread is waiting for a message
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
        """Ignored: there is no process."""

    def close(self) -> None:
        """Closes the address and drops its messages."""
        self.execution = self.execution.engine.dead
        self.responses.clear()


class RequestPort(Port):
    """A port for one response, awaited by code on the loop."""

    __slots__ = ("reply",)

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.reply = PendingReply()

    def deliver(self, message: Any) -> bool:
        if not isInternalActorSystemMessage(message):
            self.reply.resolve(message)
        return True


class SystemPort(Port):
    """The address of the actor system, parent of the primary actors and sender of system messages."""

    __slots__ = ()

    def deliver_from(self, sender: Any, message: Any) -> bool:
        """Accepts a ValidatedSource if the source authority has sent it."""
        sources = self.engine.thespian.sources
        if isinstance(message, ValidatedSource) and sender is sources.authority:
            sources.validated(message)
        return True

    def deliver(self, message: Any) -> bool:
        return True


class ActorRegistry:
    """Actors by address string, for Thespian's tests."""

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
    """A context of `ActorSystem.private()`: the same system with an external address of its own."""

    def __init__(self, base: SystemBase) -> None:
        self._base = base
        self._port = Port(base.engine)

    def tell(self, address: Any, message: Any) -> None:
        """Sends from this context."""
        self._base.tell_from(self._port, address, message)

    def ask(self, address: Any, message: Any, timeout: Any = None) -> Any:
        """Sends from this context and waits for a response."""
        return self._base.ask_from(self._port, address, message, timeout)

    def listen(self, timeout: Any = None) -> Any:
        """Waits for a message to this context."""
        return self._base.driver.listen(self._port, timeout)

    def newPrimaryActor(self, *args: Any) -> Pid:
        """As `SystemBase.newPrimaryActor`."""
        return self._base.newPrimaryActor(*args)

    def exit_context(self) -> None:
        """Ends the context and closes its address."""
        self._base.leave_context()
        self._port.close()
