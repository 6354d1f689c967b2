"""The interface that Thespian's `Actor` calls on its `_myRef`, delegated to the engine's system base.

OTP processes may use `createActor`, `send`, `wakeupAfter` and the rest as well; what Thespian sends them arrives in
`handle_info`.

The methods are spelled out: with a `__getattr__` Python would look up every attribute of a process the slow way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.core.control_block import ExecutionState, Relations
    from runtime.core.pid import Pid


class ActorReference:
    """What `Actor` methods are delegated to; `Cell` inherits it. Every method raises RuntimeError without a system base."""

    __slots__ = ()

    if TYPE_CHECKING:
        actor: Any
        execution: ExecutionState
        relations: Relations

    @property
    def _base(self) -> Any:
        base = self.execution.engine.thespian
        if base is None:
            raise RuntimeError("no Thespian system base runs on this engine")
        return base

    @property
    def address(self) -> Pid:
        """`Actor.myAddress`."""
        return self  # type: ignore[return-value]

    @property
    def globalName(self) -> str | None:
        """`Actor.globalName`."""
        return self.relations.name

    @property
    def instance(self) -> Any:
        """The actor instance; read by Thespian's tests."""
        return self.actor

    def actor_send(self, to: Any, message: Any) -> None:
        """`Actor.send`."""
        self._base.route(self, to, message)

    def createActor(
        self, actorClass: Any, requirements: Any, globalName: str | None, sourceHash: str | None = None
    ) -> Pid:
        """`Actor.createActor`. Without `sourceHash` the child has its parent's source."""
        rare = self.relations.rare
        source = sourceHash or (None if rare is None else rare.source)
        return self._base.create(self, actorClass, requirements, globalName, source)

    def wakeupAfter(self, period: Any, payload: Any) -> None:
        """`Actor.wakeupAfter`."""
        self._base.wakeup_after(self, period, payload)

    def handleDeadLetters(self, address: Any, enable: bool) -> None:
        """`Actor.handleDeadLetters`: dead letters go to the actor that asked last."""
        self._base._handleDeadLetters(address, enable)

    def registerSourceAuthority(self, address: Any) -> None:
        """`Actor.registerSourceAuthority`."""
        self._base.sources.authority = address

    def notifyOnSourceAvailability(self, address: Any, enable: bool) -> None:
        """`Actor.notifyOnSourceAvailability`."""
        self._base.sources.notify(address, enable)

    def updateCapability(self, name: str, value: Any) -> None:
        """`Actor.updateCapability`."""
        self._base.updateCapability(name, value)

    def loadActorSource(self, fname: Any) -> str:
        """`Actor.loadActorSource`."""
        return self._base.sources.load(fname)

    def unloadActorSource(self, sourceHash: str) -> None:
        """`Actor.unloadActorSource`."""
        self._base.sources.unload(sourceHash)

    def notifyOnSystemRegistrationChanges(self, address: Any, enable: bool) -> None:
        """Does nothing: there is one system and no convention."""

    def preRegisterRemoteSystem(self, address: Any, capabilities: Any) -> None:
        """As above."""

    def deRegisterRemoteSystem(self, address: Any) -> None:
        """As above."""

    def actorSystemShutdown(self) -> None:
        """`Actor.actorSystemShutdown`: sends every actor an ActorExitRequest."""
        self._base.ask_all_to_exit()
