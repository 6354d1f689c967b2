"""The process: control block, mailbox, exit signals, and the trampoline that drives its code.

A process is a Thespian actor plus a `Cell`, its control block, which is its pid as well. The cell leads to the mailbox and
the suspended coroutine (`run`), and to the links and monitors (`ties`), if it has any. Everything happens on the engine's one
thread, and one process runs at a time:

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
from contextvars import copy_context
from inspect import iscoroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from thespian.actors import Actor

from runtime.core import scheduling
from runtime.core.asyncio_task import AsyncioTask
from runtime.core.control_block import UNSET, Run, Ties, without
from runtime.core.exits import Exit, Unwind, is_atom, is_shutdown, reason_of
from runtime.core.links import Linked
from runtime.core.pid import Pid
from runtime.core.scheduling import BLOCKED, DEAD, IDLE, NEW, RECEIVING, RUNNING, YIELD, Wait
from runtime.core.signals import ExitMessage, SystemMessage

if TYPE_CHECKING:
    from runtime.core.engine import Engine

TURN_SECONDS: Final = 0.0005  # how long a turn may last before the others get theirs

_MOST_BETWEEN_LOOKS: Final = 8
_POOLED: Final = 1024
_log = logging.getLogger("runtime")


class Cell(AsyncioTask, Linked):
    """A process control block, and the process's pid. Internal to runtime/: others see a `Pid`.

    `run` and `ties` may be shared with others: see `runtime.core.control_block`.
    """

    __slots__ = ("actor", "run")

    OTP: ClassVar = True  # mail goes straight to the actor's `_handle`; False: through `handle` of the cell

    def __init__(self, engine: Engine, actor: Any, parent: Pid | None) -> None:
        self.actor: Any = actor  # None once it is dead
        self.run = engine.fresh
        page = engine.table.add(self)
        if parent is None:
            self.ties = page.shared()
        else:
            self.ties = ties = Ties(page, len(page) - 1)
            ties.parent = parent

    @property
    def engine(self) -> Engine:
        """Where it runs."""
        return self.run.engine

    @property
    def pid(self) -> Pid:
        """Itself, as others see it."""
        return self

    def own_run(self) -> Run:
        """Its `Run`, to be written to. The process must be alive."""
        run = self.run
        if run.shared:
            runs = run.engine.runs
            self.run = own = runs.pop() if runs else Run(run.engine)
            own.mode, own.queued = run.mode, run.queued
            return own
        return run

    # ---- mail

    def deliver(self, message: Any) -> bool:
        """Appends a message; False if the process is dead or its bounded mailbox is full."""
        run = self.run
        mailbox = run.mailbox
        if mailbox is None:
            if run.mode == DEAD:
                return False
            run = self.own_run()
            mailbox = run.mailbox
            if mailbox is None:
                pool = run.engine.mailboxes
                run.mailbox = mailbox = pool.pop() if pool else deque()
        elif self.ties.overload and len(mailbox) >= self.ties.overload and run.engine.refuse(self, message):
            return False
        mailbox.append(message)
        if run.mode <= RECEIVING and not run.queued:
            run.queued = True
            run.engine.enqueue(self)
        return True

    def wake(self, wait: Any) -> None:
        """The thing this process waits for has come. A wake for an earlier wait is stale and ignored."""
        run = self.run
        if run.waiting is wait and run.mode != DEAD and not run.queued:
            run.queued = True
            run.engine.enqueue(self)

    # ---- running

    def turn(self) -> None:
        """Runs the process until it waits, has no mail, or its turn is over. Called by the engine alone."""
        run = self.run
        engine = run.engine
        if run is engine.dead:  # since it was put into the queue
            return
        scheduling.current = self
        try:
            if run.mode == NEW:
                run = self.own_run()
                run.mode = RUNNING
                self._begin(run)
            elif run.coro is not None:
                self._step(run)
            budget = engine.turn_messages
            look, stride, until = budget - 1, 1, 0.0
            while run.mode == IDLE:
                mailbox = run.mailbox
                if not mailbox:
                    break
                if run.held:
                    message = self._take_held(mailbox)
                    if message is None:
                        break
                else:
                    message = mailbox.popleft()
                run.message = message
                ties = self.ties
                if ties.shared:
                    ties = self.own_ties()
                ties.reductions += 1
                run.mode = RUNNING
                try:
                    coro = self.actor._handle(message) if self.OTP else self.handle(message)
                except Unwind:
                    break
                except BaseException as exc:
                    self.crash(exc)
                    break
                if coro is not None:
                    self._drive(run, coro)
                elif run.mode == RUNNING:
                    run.mode = IDLE
                if run.doomed is not UNSET or not mailbox:
                    break
                budget -= 1
                if budget > look:
                    continue
                if budget <= 0:
                    break
                # The clock costs as much as a small message: it is looked at less and less while messages are small.
                now = perf_counter()
                if until == 0.0:
                    until = (engine.turn_began or now) + TURN_SECONDS
                if now > until:
                    break
                stride = min(stride * 2, _MOST_BETWEEN_LOOKS) if until - now > TURN_SECONDS / 2 else 1
                look -= stride
        finally:
            scheduling.current = None
        if run.doomed is not UNSET and run.mode != DEAD:
            self.terminate(run.doomed)
        if run.mode == DEAD:
            if len(engine.runs) < _POOLED:
                run.reset()
                engine.runs.append(run)
            return
        run.queued = False
        mailbox = run.mailbox
        if run.mode == IDLE:
            run.message = run.context = None
            if not mailbox:
                if not run.held:
                    self._rest(run)
            elif not run.held or any(map(self._passes_held, mailbox)):
                run.queued = True
                engine.enqueue(self)
            return
        if mailbox is not None and not mailbox:
            run.mailbox = None
            if len(engine.mailboxes) < _POOLED:
                engine.mailboxes.append(mailbox)
        if run.since is None:
            run.since = engine.now()
        if run.waiting is YIELD or run.must_cancel:
            run.queued = True
            engine.enqueue(self)

    def _rest(self, run: Run) -> None:
        """Gives the run back, with its deque: that alone is larger than all that an idle process has."""
        call = run.call
        if call is not None:
            run.call = None
            if not call.done:  # the server will answer later
                self.add_monitor(call)
        engine = run.engine
        self.run = engine.rest
        if len(engine.runs) < _POOLED:
            engine.runs.append(run)

    def handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        """One message, where the cell has a say in it; a coroutine is driven to its end before the next."""
        return self.actor._handle(message)

    def _begin(self, run: Run) -> None:
        try:
            coro = self.actor._begin()
        except Unwind:
            return
        except BaseException as exc:
            self.crash(exc)
            return
        if coro is not None:
            self._drive(run, coro)
        elif run.mode == RUNNING:
            run.mode = IDLE

    def _drive(self, run: Run, coro: Coroutine[Any, Any, Any]) -> None:
        if run.mode == DEAD:  # ended by what its code did before it made the coroutine
            coro.close()
            return
        run.coro = coro
        if run.context is None:
            # Its own context, or a contextvar set in one process would show in all that run after it.
            run.context = copy_context()
        self._step(run)

    def _step(self, run: Run) -> None:
        """Resumes the coroutine until it waits again or ends."""
        coro, context, engine = run.coro, run.context, run.engine
        assert coro is not None and context is not None
        run.waiting = None
        run.mode = RUNNING
        loop = engine.loop
        outer = scheduling.entered  # the process that has handed over to us, if one has
        if outer is not None:
            _leave_task(outer.engine.loop, outer)  # type: ignore[arg-type]
        scheduling.entered = self
        _enter_task(loop, self)  # type: ignore[arg-type]
        try:
            if run.must_cancel:
                run.must_cancel = False
                wait = context.run(coro.throw, asyncio.CancelledError())
            else:
                wait = context.run(coro.send, None)
        except StopIteration:
            run.coro = None
            run.since = None
            run.cancels, run.must_cancel = 0, False  # the next one is another task
            if run.mode == RUNNING:
                run.mode = IDLE
            return
        except Unwind:
            run.coro = None
            return
        except BaseException as exc:
            run.coro = None
            if run.mode != DEAD or isinstance(exc, KeyboardInterrupt):
                self.crash(exc)
            return
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]
            scheduling.entered = outer
            if outer is not None:
                _enter_task(outer.engine.loop, outer)  # type: ignore[arg-type]
        if run.mode == DEAD:  # ended itself, and a finally clause of its code waits
            engine.unwind(coro, wait, context)
            return
        run.waiting = wait
        if isinstance(wait, Wait):
            run.mode = RECEIVING if wait.on_mail else BLOCKED
        elif wait is None:  # a bare yield, asyncio.sleep(0): the others first
            run.mode = BLOCKED
            run.waiting = YIELD
        else:
            run.mode = BLOCKED
            wait._asyncio_future_blocking = False
            wait.add_done_callback(self.wake, context=context)
            if run.must_cancel and wait.cancel():
                run.must_cancel = False

    def _passes_held(self, message: Any) -> bool:
        # Suspended by sys: user messages wait, requests of sys and the parent's exit do not.
        return isinstance(message, SystemMessage) or (
            type(message) is ExitMessage and message.pid is (self.ties.parent or self)
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
        run = self.run
        if run.mode == DEAD:
            return
        engine = run.engine
        if not is_shutdown(reason):
            engine.report_crash(self, reason)
        was_running = run.mode == RUNNING
        if not run.shared:
            run.mode = DEAD
        self.run = engine.dead
        engine.exited(self, reason)
        for hook in self.ties.exit_hooks or ():
            try:
                hook(self)
            except Exception:  # whoever hooked in must not keep the process half alive
                _log.exception("an exit hook of %s failed", self)
        coro = run.coro
        if coro is not None and not was_running:
            run.coro = None
            assert run.context is not None
            engine.unwind(coro, run.waiting, run.context)
        if self.OTP:
            self.actor._cancel_timers()
        signals = engine.signals
        ties = self.ties
        for monitor in ties.monitors:
            if monitor.target is not None:
                monitor.target.drop_monitor(monitor)
        for other in ties.links:
            signals.append((other, None, self, reason))
        for monitor in ties.monitored_by:
            signals.append((None, monitor, self, reason))
        if run.call is not None:
            signals.append((None, run.call, self, reason))
        ties.links = ties.monitors = ties.monitored_by = ()
        ties.exit_hooks = ties.extra = None
        if not run.shared:
            run.mailbox = run.message = run.waiting = run.call = None
        self.actor = None
        engine.drain()

    def exit_signal(self, source: Pid, reason: Any, linked: bool) -> None:
        """An exit signal arrives: from `exit/2`, or (`linked`) from the end of a linked process."""
        run, ties = self.run, self.ties
        if run.mode == DEAD:
            return
        if linked:
            if source not in ties.links:
                return  # unlinked in the meantime
            ties.links = without(ties.links, source)
        elif is_atom(reason, "kill"):
            self._die("killed")
            return
        if ties.trap_exit:
            waiting = run.waiting
            if not isinstance(waiting, Wait) or not waiting.take_exit(source, reason):
                self.deliver(ExitMessage(source, reason))
        elif not is_atom(reason, "normal") or (source is self and not linked):
            self._die(reason)

    def _die(self, reason: Any) -> None:
        if scheduling.current is self:
            if self.run.doomed is UNSET:
                self.run.doomed = reason
        else:
            self.terminate(reason)

    # ---- the reference that Thespian's Actor works through (`actor._myRef`)

    @property
    def address(self) -> Pid:
        return self

    @property
    def globalName(self) -> str | None:
        return self.ties.name

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
    It has a slot (an attribute in the dict would cost an idle server a tenth of its memory): mixins have none of their own.
    """

    __slots__ = ("_myRef",)
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

    __slots__ = ("_args", "_fn")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._fn = fn
        self._args = args

    def _begin(self) -> Coroutine[Any, Any, Any] | None:
        result = self._fn(*self._args)
        if iscoroutine(result):
            return self._run(result)
        self._myRef.terminate("normal")
        return None

    async def _run(self, body: Awaitable[Any]) -> None:
        await body
        self._myRef.terminate("normal")
