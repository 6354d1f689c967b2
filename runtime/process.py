"""The process: control block, mailbox, links, monitors, exit signals, and the trampoline that drives its code.

A process is a Thespian actor plus a `Cell`, its control block. The cell owns the mailbox, the links and monitors, and
the suspended coroutine if the process waits. Everything happens on the engine's one thread, and one process runs at a time:

* Messages are appended to the receiver's mailbox at once, signals act on the receiver at once. So both keep the order in
  which they were sent. Only the process that is *running* is spared until its code waits or returns (`doomed`), as in
  Erlang, where a process handles its signals when it is scheduled.
* Deaths caused by a death go through `engine.signals`, a queue, so a chain of links of any length needs no stack.
* The cell is also what `asyncio.current_task()` returns inside the process, so `asyncio.timeout` and `TaskGroup` work.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio.tasks import _enter_task, _leave_task  # the face asyncio offers to Task implementations
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from inspect import iscoroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from thespian.actors import Actor

from runtime import scheduling
from runtime.asyncio_task import AsyncioTask
from runtime.exits import Exit, Unwind, is_atom, is_shutdown, reason_of
from runtime.pid import Pid
from runtime.scheduling import BLOCKED, DEAD, IDLE, NEW, RECEIVING, RUNNING, STATUS, YIELD, Wait
from runtime.signals import ExitMessage, Monitor, SystemMessage

if TYPE_CHECKING:
    from runtime.engine import Engine

TURN_SECONDS: Final = 0.0005  # how long a turn may last before the others get theirs

UNSET: Final[Any] = object()
_MOST_BETWEEN_LOOKS: Final = 8
_POOLED_MAILBOXES: Final = 1024
_log = logging.getLogger("runtime")


class Cell(AsyncioTask):
    """A process control block. Internal to runtime/: others hold a `Pid`.

    Invariants: `queued` is True exactly while the cell lies in the run queue or runs; `coro` is None unless mode is
    RECEIVING, BLOCKED or RUNNING; a DEAD cell has no links, no monitors, no mail, no actor.
    """

    __slots__ = (
        "__weakref__",
        "actor",
        "cancels",
        "context",
        "coro",
        "doomed",
        "engine",
        "exit_hooks",
        "extra",
        "held",
        "links",
        "mailbox",
        "message",
        "mode",
        "monitored_by",
        "monitors",
        "must_cancel",
        "name",
        "overload",
        "parent",
        "pid",
        "queued",
        "reductions",
        "since",
        "trap_exit",
        "waiting",
    )

    PID_TEXT: ClassVar = "<0.%d.0>"
    OTP: ClassVar = True  # mail goes straight to the actor's `_handle`; False: through `handle` of the cell

    def __init__(self, engine: Engine, actor: Any, parent: Pid | None, number: int) -> None:
        self.engine = engine
        self.actor: Any = actor  # None once it is dead
        self.parent = parent
        self.pid = Pid(number, self)
        self.mode = NEW
        self.queued = False
        self.trap_exit = False
        self.held = False
        self.must_cancel = False
        self.cancels = 0
        self.reductions = 0
        self.name: str | None = None
        self.mailbox: deque[Any] | None = None
        self.overload = 0  # the mailbox's bound; 0 is none
        self.links: dict[Pid, None] | None = None
        self.monitors: dict[Monitor, None] | None = None
        self.monitored_by: dict[Any, None] | None = None
        self.exit_hooks: list[Callable[[Pid], object]] | None = None
        self.coro: Coroutine[Any, Any, Any] | None = None
        self.context: Context | None = None
        self.waiting: Any = None
        self.message: Any = None  # the one being handled; kept for crash reports
        self.since: float | None = (
            None  # when a message was first left waiting, in the engine's seconds; for observers
        )
        self.doomed: Any = UNSET
        self.extra: dict[str, Any] | None = None  # rare state: start handshake, sys debug, Thespian's side

    def __repr__(self) -> str:
        return f"<Cell {self.pid} {self.name or type(self.actor).__name__} {STATUS[self.mode]}>"

    # ---- mail

    def deliver(self, message: Any) -> bool:
        """Appends a message; False if the process is dead or its bounded mailbox is full."""
        mode = self.mode
        if mode == DEAD:
            return False
        mailbox = self.mailbox
        if mailbox is None:
            pool = self.engine.mailboxes
            self.mailbox = mailbox = pool.pop() if pool else deque()
        elif self.overload and len(mailbox) >= self.overload and self.engine.refuse(self, message):
            return False
        mailbox.append(message)
        if mode <= RECEIVING and not self.queued:
            self.queued = True
            self.engine.enqueue(self)
        return True

    def wake(self, wait: Any) -> None:
        """The thing this process waits for has come. A wake for an earlier wait is stale and ignored."""
        if self.waiting is wait and self.mode != DEAD and not self.queued:
            self.queued = True
            self.engine.enqueue(self)

    # ---- running

    def turn(self) -> None:
        """Runs the process until it waits, has no mail, or its turn is over. Called by the engine alone."""
        scheduling.current = self
        try:
            if self.mode == NEW:
                self.mode = RUNNING
                self._begin()
            elif self.coro is not None:
                self._step()
            budget = self.engine.turn_messages
            look, stride, until = budget - 1, 1, 0.0
            while self.mode == IDLE:
                mailbox = self.mailbox
                if not mailbox:
                    break
                if self.held:
                    message = self._take_held(mailbox)
                    if message is None:
                        break
                else:
                    message = mailbox.popleft()
                self.message = message
                self.reductions += 1
                self.mode = RUNNING
                try:
                    coro = self.actor._handle(message) if self.OTP else self.handle(message)
                except Unwind:
                    break
                except BaseException as exc:
                    self.crash(exc)
                    break
                if coro is not None:
                    self._drive(coro)
                elif self.mode == RUNNING:
                    self.mode = IDLE
                if self.doomed is not UNSET or not mailbox:
                    break
                budget -= 1
                if budget > look:
                    continue
                if budget <= 0:
                    break
                # The clock costs as much as a small message: it is looked at less and less while messages are small.
                now = perf_counter()
                if until == 0.0:
                    until = (self.engine.turn_began or now) + TURN_SECONDS
                if now > until:
                    break
                stride = min(stride * 2, _MOST_BETWEEN_LOOKS) if until - now > TURN_SECONDS / 2 else 1
                look -= stride
        finally:
            scheduling.current = None
        self.queued = False
        if self.doomed is not UNSET and self.mode != DEAD:
            self.terminate(self.doomed)
        if self.mode == DEAD:
            return
        mailbox = self.mailbox
        if mailbox:
            if self.mode == IDLE and not (self.held and not any(map(self._passes_held, mailbox))):
                self.queued = True
                self.engine.enqueue(self)
        elif mailbox is not None:
            # An idle process carries no deque (a deque is larger than the rest of the process).
            self.mailbox = None
            pool = self.engine.mailboxes
            if len(pool) < _POOLED_MAILBOXES:
                pool.append(mailbox)
        if self.mode == IDLE:
            self.message = None
            self.context = None
            return
        if self.since is None:
            self.since = self.engine.now()
        if (self.waiting is YIELD or self.must_cancel) and not self.queued:
            self.queued = True
            self.engine.enqueue(self)

    def handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        """One message, where the cell has a say in it; a coroutine is driven to its end before the next."""
        return self.actor._handle(message)

    def _begin(self) -> None:
        try:
            coro = self.actor._begin()
        except Unwind:
            return
        except BaseException as exc:
            self.crash(exc)
            return
        if coro is not None:
            self._drive(coro)
        elif self.mode == RUNNING:
            self.mode = IDLE

    def _drive(self, coro: Coroutine[Any, Any, Any]) -> None:
        self.coro = coro
        if self.context is None:
            # Its own context, or a contextvar set in one process would show in all that run after it.
            self.context = copy_context()
        self._step()

    def _step(self) -> None:
        """Resumes the coroutine until it waits again or ends."""
        coro, context, engine = self.coro, self.context, self.engine
        assert coro is not None and context is not None
        self.waiting = None
        self.mode = RUNNING
        loop = engine.loop
        outer = scheduling.entered  # the process that has handed over to us, if one has
        if outer is not None:
            _leave_task(outer.engine.loop, outer)  # type: ignore[arg-type]
        scheduling.entered = self
        _enter_task(loop, self)  # type: ignore[arg-type]
        try:
            if self.must_cancel:
                self.must_cancel = False
                wait = context.run(coro.throw, asyncio.CancelledError())
            else:
                wait = context.run(coro.send, None)
        except StopIteration:
            self.coro = None
            self.since = None
            if self.mode == RUNNING:
                self.mode = IDLE
            return
        except Unwind:
            self.coro = None
            return
        except BaseException as exc:
            self.coro = None
            if self.mode != DEAD:
                self.crash(exc)
            return
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]
            scheduling.entered = outer
            if outer is not None:
                _enter_task(outer.engine.loop, outer)  # type: ignore[arg-type]
        if self.mode == DEAD:  # ended itself, and a finally clause of its code waits
            engine.unwind(coro, wait, context)
            return
        self.waiting = wait
        if isinstance(wait, Wait):
            self.mode = RECEIVING if wait.on_mail else BLOCKED
        elif wait is None:  # a bare yield, asyncio.sleep(0): the others first
            self.mode = BLOCKED
            self.waiting = YIELD
        else:
            self.mode = BLOCKED
            wait._asyncio_future_blocking = False
            wait.add_done_callback(self.wake, context=context)
            if self.must_cancel and wait.cancel():
                self.must_cancel = False

    def _passes_held(self, message: Any) -> bool:
        # Suspended by sys: user messages wait, requests of sys and the parent's exit do not.
        return isinstance(message, SystemMessage) or (
            type(message) is ExitMessage and message.pid is (self.parent or self.pid)
        )

    def _take_held(self, mailbox: deque[Any]) -> Any:
        for index, message in enumerate(mailbox):
            if self._passes_held(message):
                del mailbox[index]
                return message
        return None

    # ---- the end

    def crash(self, exc: BaseException) -> None:
        """The process's code raised: it ends with the reason that the exception stands for."""
        if isinstance(exc, KeyboardInterrupt):
            raise exc
        self.terminate(reason_of(exc))

    def terminate(self, reason: Any) -> None:
        """Ends the process now. Links and monitors hear of it before control returns to the caller.

        Order, as in OTP: the name is free first, then EXIT goes to the links, then DOWN to the monitors.
        """
        if self.mode == DEAD:
            return
        engine = self.engine
        if not is_shutdown(reason):
            engine.report_crash(self, reason)
        was_running = self.mode == RUNNING
        self.mode = DEAD
        engine.exited(self, reason)
        if self.exit_hooks is not None:
            for hook in self.exit_hooks:
                try:
                    hook(self.pid)
                except Exception:  # whoever hooked in must not keep the process half alive
                    _log.exception("an exit hook of %s failed", self.pid)
        coro = self.coro
        if coro is not None and not was_running:
            self.coro = None
            assert self.context is not None
            engine.unwind(coro, self.waiting, self.context)
        if self.OTP:
            self.actor._cancel_timers()
        signals = engine.signals
        if self.monitors is not None:
            for monitor in self.monitors:
                if monitor.target is not None:
                    monitor.target.drop_monitor(monitor)
        if self.links is not None:
            for pid in self.links:
                signals.append((pid.cell, None, self.pid, reason))
        if self.monitored_by is not None:
            for monitor in self.monitored_by:
                signals.append((None, monitor, self.pid, reason))
        self.links = self.monitors = self.monitored_by = self.exit_hooks = self.extra = None
        self.mailbox = self.actor = self.message = self.waiting = None
        engine.drain()

    def exit_signal(self, source: Pid, reason: Any, linked: bool) -> None:
        """An exit signal arrives: from `exit/2`, or (`linked`) from the end of a linked process."""
        if self.mode == DEAD:
            return
        if linked:
            if self.links is None or source not in self.links:
                return  # unlinked in the meantime
            del self.links[source]
        elif is_atom(reason, "kill"):
            self._die("killed")
            return
        if self.trap_exit:
            waiting = self.waiting
            if not isinstance(waiting, Wait) or not waiting.take_exit(source, reason):
                self.deliver(ExitMessage(source, reason))
        elif not is_atom(reason, "normal") or (source is self.pid and not linked):
            self._die(reason)

    def _die(self, reason: Any) -> None:
        if scheduling.current is self:
            if self.doomed is UNSET:
                self.doomed = reason
        else:
            self.terminate(reason)

    # ---- links and monitors

    def link(self, other: Cell) -> None:
        """Makes the one link there may be between two living processes."""
        if self.links is None:
            self.links = {}
        if other.links is None:
            other.links = {}
        self.links[other.pid] = None
        other.links[self.pid] = None

    def unlink(self, pid: Pid) -> None:
        """Removes the link on both sides; no EXIT comes from it any more."""
        if self.links is not None:
            self.links.pop(pid, None)
        other = pid.cell
        if other.links is not None:
            other.links.pop(self.pid, None)

    def monitor(self, target: Cell, name: str | None = None) -> Monitor:
        """A new monitor of `target`, owned by this process."""
        monitor = Monitor(self, target, name)
        if self.monitors is None:
            self.monitors = {}
        self.monitors[monitor] = None
        target.add_monitor(monitor)
        return monitor

    def add_monitor(self, monitor: Any) -> None:
        """`monitor.fire(pid, reason)` will be called once, when this process ends."""
        if self.monitored_by is None:
            self.monitored_by = {}
        self.monitored_by[monitor] = None

    def drop_monitor(self, monitor: Any) -> None:
        """Takes back `add_monitor`."""
        if self.monitored_by is not None:
            self.monitored_by.pop(monitor, None)
            if not self.monitored_by:
                self.monitored_by = None  # every start leaves one behind; an empty dict is as large as a cell

    def on_exit(self, hook: Callable[[Pid], object]) -> None:
        """`hook(pid)` runs the moment this process ends, before any other process hears of it (Registry, PubSub)."""
        if self.exit_hooks is None:
            self.exit_hooks = []
        self.exit_hooks.append(hook)

    # ---- the reference that Thespian's Actor works through (`actor._myRef`)

    @property
    def address(self) -> Pid:
        return self.pid

    @property
    def globalName(self) -> str | None:
        return self.name

    def __getattr__(self, attribute: str) -> Any:
        # createActor, actor_send, wakeupAfter, ...: the system base knows how; a process that never asks pays nothing.
        base = None if attribute.startswith("__") else self.engine.thespian
        if base is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {attribute!r}")
        return base.actor_method(self, attribute)


class Process(Actor):
    """What all OTP processes are: a Thespian actor whose mail goes to `_handle`.

    `_begin` runs when the process first runs, `_handle` for each message; both return None, or a coroutine
    that the trampoline drives to its end before the next message. `_cancel_timers` is called once it is dead.
    """

    _myRef: Cell

    def _begin(self) -> Coroutine[Any, Any, Any] | None:
        return None

    def _handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        raise Exit("no_handler")

    def _cancel_timers(self) -> None:
        """The process is dead, however it came: its timers must not keep it in memory."""

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        """Thespian's entry: the message joins the others in the mailbox."""
        self._myRef.deliver(msg)


class FunctionProcess(Process):
    """A plain process: runs a function and ends with `normal` when it returns (`erlang:spawn/3`)."""

    __slots__ = ("_args", "_fn", "_myRef")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._fn = fn
        self._args = args

    def _begin(self) -> Coroutine[Any, Any, Any] | None:
        result = self._fn(*self._args)
        if iscoroutine(result):
            return self._run(result)
        raise Exit("normal")

    async def _run(self, body: Awaitable[Any]) -> None:
        await body
        raise Exit("normal")
