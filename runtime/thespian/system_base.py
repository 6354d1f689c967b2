"""The system base for Thespian, on which plain Thespian actors and OTP processes run side by side.

    system = ActorSystem(systemBase=SystemBase(), transientUnique=True)
    system.ask(system.createActor(Greeter), "hello", 1)

`SystemBase()` owns its engine: actors run inside `ask`, `tell` and `listen`, in the calling thread; several threads may call,
each preferably in its own `private()` context. `SystemBase(engine)` uses an engine that is running: other threads may ask, and
code on the loop awaits `request(...)`.

It is created before its ActorSystem, which does not pass it the capabilities: give them to both. It owns the external addresses,
global names (which are registered names), wakeups and dead letters.
"""

from __future__ import annotations

import inspect
import logging
import sys
import time
from functools import partial
from typing import Any, Final

from thespian.actors import (
    ActorExitRequest,
    ActorSystemException,
    ChildActorExited,
    DeadEnvelope,
    ThespianGeneration,
    WakeupMessage,
)
from thespian.system.timing import ExpirationTimer, timePeriodSeconds, toTimeDeltaOrNone
from thespian.system.utilis import actualActorClass

from runtime.core import engine as engines
from runtime.core.actor import Process
from runtime.core.control_block import RareState
from runtime.core.engine import Engine
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.thespian.actor_sources import ActorSources
from runtime.thespian.driven_engine import DrivenEngine
from runtime.thespian.driver import Driver
from runtime.thespian.external_ports import ActorRegistry, Port, PrivateContext, RequestPort, SystemPort
from runtime.thespian.process import ThespianCell, children_of

_SHUTDOWN_LIMIT: Final = 10.0  # seconds for actors to exit by themselves
_SYSTEM_ADDRESS: Final = "/ActorSys"

_log = logging.getLogger("runtime")


class SystemBase:
    """The argument of `ActorSystem(systemBase=...)`; ActorSystem and actors call the methods with Thespian's names."""

    def __init__(self, engine: Engine | None = None, capabilities: dict[str, Any] | None = None) -> None:
        self.engine = DrivenEngine() if engine is None else engine
        self.driver = Driver(self.engine)
        self.engine.thespian = self
        if engines.default_engine() is None:
            engines.set_default(self.engine)
        self.sources = ActorSources(self)
        self.system = SystemPort(self.engine)
        self._external = Port(self.engine)
        self._nobody = Port(self.engine)  # the address of a primary actor that this system cannot run
        self._nobody.close()
        self._dead_letters: Pid | None = None
        self._primaries: dict[Pid, None] = {}
        self._wakeups: dict[int, tuple[Pid, ExpirationTimer]] = {}
        self._wakeup_count = 0
        self._init_names: dict[type, tuple[str, ...]] = {}
        self.capabilities: dict[str, Any] = {} if capabilities is None else capabilities
        self.capabilities.update(
            {
                "Python Version": tuple(sys.version_info),
                "Thespian Generation": ThespianGeneration,
                "Thespian Version": str(int(time.time() * 1000)),
                "Thespian ActorSystem Name": "runtime",
                "Thespian ActorSystem Version": 1,
                "Thespian Watch Supported": False,
                "AllowRemoteActorSources": "No",
            }
        )

    @property
    def actorRegistry(self) -> ActorRegistry:
        """Living actors by address string."""
        return ActorRegistry(self)

    # ---- called by ActorSystem

    def newPrimaryActor(
        self, actorClass: Any, requirements: Any, globalName: str | None, sourceHash: str | None
    ) -> Pid:
        """`ActorSystem.createActor`. Raises what the actor's `__init__` raises."""
        return self.driver.execute(
            partial(self.create, None, actorClass, requirements, globalName, sourceHash)
        )

    def tell(self, address: Any, message: Any) -> None:
        """`ActorSystem.tell`: sends, and runs the actors until they are idle, for at most a second."""
        self.tell_from(self._external, address, message)

    def ask(self, address: Any, message: Any, timeout: Any = None) -> Any:
        """`ActorSystem.ask`: sends, and waits for any response. None after `timeout`, or when none can come any more."""
        return self.ask_from(self._external, address, message, timeout)

    def listen(self, timeout: Any = None) -> Any:
        """`ActorSystem.listen`: the next message to the external address; None as of `ask`."""
        return self.driver.listen(self._external, timeout)

    def external_clone(self) -> PrivateContext:
        """`ActorSystem.private`: a context with an external address of its own, for a thread."""
        self.driver.contexts += 1
        return PrivateContext(self)

    def leave_context(self) -> None:
        """A private context has ended."""
        self.driver.contexts -= 1

    def updateCapability(self, name: str, value: Any = None) -> None:
        """`ActorSystem.updateCapability`: for actors created from now on; None removes it."""
        if value is None:
            self.capabilities.pop(name, None)
        else:
            self.capabilities[name] = value

    def loadActorSource(self, fname: Any) -> str:
        """`ActorSystem.loadActorSource`."""
        source_hash = self.driver.execute(partial(self.sources.load, fname))
        self.driver.run_all()
        return source_hash

    def unloadActorSource(self, sourceHash: str) -> None:
        """`ActorSystem.unloadActorSource`."""
        self.driver.execute(partial(self.sources.unload, sourceHash))
        self._init_names.clear()

    def _handleDeadLetters(self, address: Any, enable: bool) -> None:
        if enable:
            self._dead_letters = address
        elif self._dead_letters is address:
            self._dead_letters = None

    def shutdown(self) -> None:
        """`ActorSystem.shutdown`: sends every actor an ActorExitRequest, then closes a DrivenEngine."""
        self.driver.execute(self._shut_down)
        self.driver.close(lambda: not self._primaries, _SHUTDOWN_LIMIT)

    def _shut_down(self) -> None:
        self.sources.unload_all()
        self.ask_all_to_exit()

    def ask_all_to_exit(self) -> None:
        """Sends an ActorExitRequest to each primary actor; the others are their children."""
        for pid in list(self._primaries):
            self.route(self.system.pid, pid, ActorExitRequest())

    # ---- actors

    def create(
        self,
        parent: Cell | None,
        actor_class: Any,
        requirements: Any = None,
        name: str | None = None,
        source_hash: str | None = None,
    ) -> Pid:
        """Creates an actor: by its class a plain Thespian one or an OTP process. Returns an existing one of that `name`."""
        engine = self.engine
        if name:
            existing = engine.names.get(name)
            if existing is not None:
                return existing.pid
        actor = self._instantiate(actor_class, requirements, source_hash, parent is None)
        if actor is None:
            return self._nobody.pid if parent is None else self._stillborn(parent)
        if isinstance(actor, Process):
            cell = engine.spawn_actor(actor, parent)
            bound = getattr(actor, "max_mailbox", None)
            if bound:
                cell.own_relations().overload = bound
            self._watch(cell)
        else:
            cell = engine.spawn_actor(actor, parent, False, ThespianCell)
        if source_hash:
            cell.own_rare().source = source_hash
        if parent is None:
            self._primaries[cell] = None
        else:
            rare = parent.own_rare()
            if rare.children is None:
                rare.children = {}
            rare.children[cell] = None
            self._watch(parent)
        if name:
            engine.register(name, cell)
        return cell

    def _instantiate(
        self, actor_class: Any, requirements: Any, source_hash: str | None, primary: bool
    ) -> Any:
        try:
            if type(actor_class) is not type:
                actor_class = actualActorClass(actor_class, self.sources.importer(source_hash))
            check = getattr(actor_class, "actorSystemCapabilityCheck", None)
            if check is not None and not check(self.capabilities, requirements or {}):
                return None
            names = self._init_names.get(actor_class)
            if names is None:
                names = self._init_names[actor_class] = _init_names(actor_class)
            if not names:
                return actor_class()
            offered = {"capabilities": self.capabilities, "requirements": requirements}
            return actor_class(**{name: offered[name] for name in names})
        except ImportError:
            raise
        except (ActorSystemException, Exception):
            if primary:
                raise
            _log.warning("could not create actor %s", actor_class, exc_info=True)
            return None

    def _stillborn(self, parent: Cell) -> Pid:
        cell = ThespianCell(self.engine, None, parent)
        cell.execution = self.engine.dead
        self.engine.table.remove(cell)
        self.route(self.system.pid, parent.pid, ChildActorExited(cell))
        return cell

    def _watch(self, cell: Cell) -> None:
        if type(cell) is not ThespianCell and not cell.own_rare().watched:
            cell.own_rare().watched = True
            cell.on_exit(self._otp_ended)

    def _otp_ended(self, pid: Pid) -> None:
        self.ended(pid.cell, pid.cell.relations.rare)

    def ended(self, cell: Cell, rare: RareState | None) -> None:
        """An actor has ended: tells its children to exit, and its parent, and removes it everywhere."""
        for child in list(children_of(rare)):
            self.route(self.system.pid, child, ActorExitRequest())
        if self._dead_letters is cell:
            self._dead_letters = None
        self.sources.forget(cell)
        self._primaries.pop(cell, None)
        parent = None if cell.relations.parent is None else cell.relations.parent.cell
        siblings = None if parent is None or parent.relations.rare is None else parent.relations.rare.children
        if siblings is not None and cell in siblings:
            del siblings[cell]
            self.route(self.system.pid, parent, ChildActorExited(cell))

    # ---- messages

    def route(self, sender: Pid, to: Any, message: Any) -> None:
        """Delivers to any address; a message that cannot be delivered is a dead letter."""
        cell = to.cell if isinstance(to, Pid) else self.actorRegistry.get(to.actorAddressString)
        if cell is None:
            self.dead_letter(to, message)
        elif isinstance(cell, ThespianCell | SystemPort):
            cell.deliver_from(sender, message)
        elif not cell.deliver(message) and cell is not self._nobody:
            self.dead_letter(to, message)

    def dead_letter(self, address: Any, message: Any) -> None:
        """Sends a DeadEnvelope to the actor that handles dead letters, if there is one."""
        handler = self._dead_letters
        if (
            handler is not None
            and handler is not address
            and not isinstance(message, DeadEnvelope | WakeupMessage)
        ):
            self.route(self.system.pid, handler, DeadEnvelope(address.actorAddressString, message))

    def wakeup_after(self, cell: Cell, period: Any, payload: Any) -> None:
        """Sends the actor a WakeupMessage from itself after `period` (seconds or timedelta)."""
        timer = ExpirationTimer(toTimeDeltaOrNone(period))
        self._wakeup_count += 1
        self._wakeups[self._wakeup_count] = (cell, timer)
        seconds = max(0.0, timePeriodSeconds(timer.duration))
        self.engine.call_later(seconds, self._wake_up, self._wakeup_count, payload)

    def _wake_up(self, number: int, payload: Any) -> None:
        pid, timer = self._wakeups.pop(number)
        if pid.cell.execution.mode != DEAD:
            self.route(pid, pid, WakeupMessage(timer.duration, payload))

    def wakeups(self) -> list[tuple[Pid, ExpirationTimer]]:
        """All pending wakeups."""
        return list(self._wakeups.values())

    # ---- from outside

    async def request(self, address: Any, message: Any, timeout: float | None = 5000) -> Any:
        """`ask` for code on the engine's loop: awaits the first response. Raises TimeoutError after `timeout` ms."""
        port = RequestPort(self.engine)
        self.route(port.pid, address, message)
        timer = None
        if timeout is not None:
            timer = self.engine.call_later(
                timeout / 1000, port.reply.resolve, None, TimeoutError(f"no answer in {timeout} ms")
            )
        try:
            return await port.reply
        finally:
            port.execution = self.engine.dead
            if timer is not None:
                timer.cancel()

    def tell_from(self, port: Port, address: Any, message: Any) -> None:
        """Sends from a port."""
        self.driver.post(partial(self.route, port.pid, address, message))
        self.driver.run_all()

    def ask_from(self, port: Port, address: Any, message: Any, timeout: Any) -> Any:
        """Sends from a port and listens there."""
        return self.driver.ask(port, partial(self.route, port.pid, address, message), timeout)


def _init_names(actor_class: type) -> tuple[str, ...]:
    """The names of Thespian's two optional arguments that an actor's `__init__` has."""
    init: Any = actor_class.__init__  # type: ignore[misc]
    try:
        names = inspect.getfullargspec(init).args
    except TypeError:
        return ()
    return tuple(name for name in ("capabilities", "requirements") if name in names)
