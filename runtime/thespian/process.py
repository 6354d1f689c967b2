"""A plain Thespian actor as a process: Thespian's semantics on the runtime's mailbox, links and scheduler.

Messages are in the mailbox as `(message, sender)` and go to `receiveMessage`. A message whose handling raises is tried three
times in all; then its sender gets it back as a `PoisonMessage`, and the actor continues, as in Thespian. `ActorExitRequest`,
`ChildActorExited` and `Thespian_StatusReq` are handled here. When an actor raises SystemExit or is ended by an exit signal, its
parent gets `ChildActorExited` and its children an `ActorExitRequest`.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Coroutine, Iterable
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, ClassVar, Final

from thespian.actors import (
    ActorExitRequest,
    ActorSystemMessage,
    PoisonMessage,
    Thespian_ActorStatus,
    Thespian_StatusReq,
)

from runtime.core.control_block import RareState
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler
from runtime.core.signals import Down, ExitMessage, SystemMessage

if TYPE_CHECKING:
    from runtime.core.engine import Engine
    from runtime.thespian.system_base import SystemBase

ATTEMPTS: Final = 3  # of a message before it becomes a PoisonMessage

_log = logging.getLogger("runtime")


def children_of(rare: RareState | None) -> Iterable[Pid]:
    """The living child actors of an actor with this rare state."""
    return () if rare is None or rare.children is None else rare.children


class ThespianCell(Cell):
    """The control block of a plain Thespian actor."""

    __slots__ = ()

    PID_TEXT: ClassVar = "ActorAddr-(0.%d.0)"  # Thespian does not allow `<` in an address

    def __init__(self, engine: Engine, actor: Any, parent: Pid | None) -> None:
        super().__init__(engine, actor, parent)
        self.execution = engine.rest  # no init to run: it waits for messages

    # ---- messages

    def deliver(self, message: Any) -> bool:
        """Delivers a message that was not sent by `Actor.send`: of an OTP process or of the runtime."""
        if isinstance(message, SystemMessage):
            return Cell.deliver(self, message)
        if scheduler.current is None or isinstance(message, ExitMessage | Down):
            sender = self.engine.thespian.system.pid
        else:
            sender = scheduler.current.pid
        return self.deliver_from(sender, message)

    def deliver_from(self, sender: Any, message: Any) -> bool:
        """Delivers a message with its sender; to a dead actor it is a dead letter."""
        if Cell.deliver(self, (message, sender)):
            return True
        self.engine.thespian.dead_letter(self, message)
        return False

    def handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        if type(message) is not tuple:
            return message.perform(self)
        body, sender = message
        if isinstance(body, ActorSystemMessage):
            return self._system_message(body, sender)
        try:
            result = self.actor.receiveMessage(body, sender)
        except Exception:
            return self._failed(body, sender, 1)
        if iscoroutine(result):
            return self._await(result, body, sender, 1)
        return None

    def _receive(self, message: Any, sender: Any, attempt: int = 1) -> Coroutine[Any, Any, Any] | None:
        try:
            # Looked up each time, as Thespian's initializing messages rebind it on the instance.
            result = self.actor.receiveMessage(message, sender)
        except Exception:
            return self._failed(message, sender, attempt)
        if iscoroutine(result):
            return self._await(result, message, sender, attempt)
        return None

    async def _await(self, coro: Coroutine[Any, Any, Any], message: Any, sender: Any, attempt: int) -> None:
        try:
            await coro
        except Exception:
            if self.execution.mode == DEAD:
                raise
            again = self._failed(message, sender, attempt)
            if again is not None:
                await again
        else:
            if isinstance(message, ActorExitRequest):
                self._exit(message)

    def _failed(self, message: Any, sender: Any, attempt: int) -> Coroutine[Any, Any, Any] | None:
        _log.warning("actor %s failed with a message (attempt %d)", self, attempt, exc_info=True)
        if isinstance(message, ActorExitRequest):
            self._exit(message)
            return None
        if attempt < ATTEMPTS:
            # At once, before the messages that wait, which keeps the order.
            return self._receive(message, sender, attempt + 1)
        if not isinstance(message, PoisonMessage):
            poison = PoisonMessage(message, traceback.format_exc())
            self.engine.thespian.route(self, sender, poison)
        return None

    def _system_message(self, message: ActorSystemMessage, sender: Any) -> Coroutine[Any, Any, Any] | None:
        if isinstance(message, Thespian_StatusReq):
            self.engine.thespian.route(self, sender, self._status())
            return None
        coro = self._receive(message, sender)
        if coro is None and isinstance(message, ActorExitRequest):
            self._exit(message)
        return coro

    def _exit(self, request: ActorExitRequest) -> None:
        if self.execution.mode == DEAD:
            return
        if not request.isRecursive and self.relations.rare is not None:
            self.relations.rare.children = None
        self.terminate("normal")

    def terminate(self, reason: Any) -> None:
        if self.execution.mode == DEAD:
            return
        rare, mailbox = self.relations.rare, self.execution.mailbox
        super().terminate(reason)
        self.engine.thespian.ended(self, rare)
        for message in mailbox or ():
            if type(message) is tuple:
                self.engine.thespian.dead_letter(self, message[0])

    def _status(self) -> Thespian_ActorStatus:
        base: SystemBase = self.engine.thespian
        status = Thespian_ActorStatus(self, type(self.actor).__name__, base.system.pid)
        status.addWakeups(base.wakeups())
        for child in children_of(self.relations.rare):
            status.addChild(child)
        for message in self.execution.mailbox or ():
            if type(message) is tuple:
                status.addPendingMessage(message[1], self, message[0])
        return status

    # ---- called by the actor

    def actor_send(self, to: Any, message: Any) -> None:
        """`Actor.send`."""
        if type(to) is not ThespianCell or not Cell.deliver(to, (message, self)):
            self.engine.thespian.route(self, to, message)
