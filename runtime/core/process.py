"""The process: its control block, its mail, and the trampoline that drives its code.

A process is a Thespian actor plus a `Cell`, its control block, which is its pid as well. The cell leads to the mailbox and
the suspended coroutine (`execution`), and to the links and monitors (`relations`), if it has any. Everything happens on the
engine's one thread, and one process runs at a time:

* Messages are appended to the receiver's mailbox at once, signals act on the receiver at once. So both keep the order in
  which they were sent. Only the process that is *running* is spared until its code waits or returns (`pending_signals`), as in
  Erlang, where a process handles its signals when it is scheduled.
* Deaths caused by a death go through `engine.signals`, a queue, so a chain of links of any length needs no stack.
* The cell is also what `asyncio.current_task()` returns inside the process, so `asyncio.timeout` and `TaskGroup` work.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # the face asyncio offers to Task implementations
from collections.abc import Coroutine
from contextvars import copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from runtime.core.actor import FunctionProcess, Process
from runtime.core.actor_reference import ActorReference
from runtime.core.asyncio_task import AsyncioTask
from runtime.core.control_block import UNSET, ExecutionState, Relations
from runtime.core.exit_signals import Exiting
from runtime.core.exits import Unwind
from runtime.core.mailbox import LONG, Mailbox, Match
from runtime.core.modes import BLOCKED, DEAD, IDLE, NEW, RECEIVING, RUNNING
from runtime.core.pid import Pid, Ref
from runtime.core.scheduling import YIELD, Wait, scheduler
from runtime.core.signals import ExitMessage, Monitor, SystemMessage, UnhandledSignals
from runtime.core.small_set import including

if TYPE_CHECKING:
    from runtime.core.engine import Engine

TURN_SECONDS: Final = 0.0005  # how long a turn may last before the others get theirs

_HALF_A_TURN: Final = TURN_SECONDS / 2
_MOST_BETWEEN_LOOKS: Final = 8
_POOLED: Final = 1024


class Cell(AsyncioTask, ActorReference, Exiting):
    """A process control block, and the process's pid. Internal to runtime/: others see a `Pid`.

    `execution` and `relations` may be shared with others: see `runtime.core.control_block`.
    """

    __slots__ = ("actor", "execution")

    def __init__(self, engine: Engine, actor: Any, parent: Pid | None) -> None:
        self.actor: Any = actor  # None once it is dead
        self.execution = engine.fresh
        page = engine.table.add(self)
        if parent is None:
            self.relations = page.shared()
        else:
            self.relations = Relations(page, len(page) - 1, False, parent)

    @property
    def engine(self) -> Engine:
        """Where it runs."""
        return self.execution.engine

    @property
    def pid(self) -> Pid:
        """Itself, as others see it."""
        return self

    @property
    def reductions(self) -> int:
        """Messages it has begun to handle."""
        return self.relations.reductions + self.execution.reductions

    def own_execution(self) -> ExecutionState:
        """Its `ExecutionState`, to be written to. The process must be alive."""
        execution = self.execution
        if execution.shared:
            spare = execution.engine.spare_executions
            self.execution = own = spare.pop() if spare else ExecutionState(execution.engine)
            own.mode, own.queued = execution.mode, execution.queued
            return own
        return execution

    # ---- mail

    def deliver(self, message: Any) -> bool:
        """Appends a message; False if the process is dead or its bounded mailbox is full."""
        execution = self.execution
        mailbox = execution.mailbox
        if mailbox is None:
            if execution.mode == DEAD:
                return False
            execution = self.own_execution()
            mailbox = execution.mailbox
            if mailbox is None:
                pool = execution.engine.spare_mailboxes
                execution.mailbox = mailbox = pool.pop() if pool else Mailbox()
        elif (
            self.relations.overload
            and len(mailbox) >= self.relations.overload
            and execution.engine.refuse(self, message)
        ):
            return False
        mailbox.append(message)
        if execution.mode <= RECEIVING and not execution.queued:
            execution.queued = True
            engine = execution.engine
            engine.queue.append(self)
            if not engine.scheduled:
                engine.kick()
        return True

    def take(self, match: Match) -> tuple[Any, ...]:
        """Removes the first message in its mailbox that matches and returns it in a tuple; `()` if there is none."""
        mailbox = self.execution.mailbox
        return mailbox.take(match) if mailbox else ()

    def made(self, ref: Ref) -> None:
        """It has made a reference: a receive for it may skip the mail that is here already."""
        mailbox = self.execution.mailbox
        if mailbox and len(mailbox) > LONG:
            mailbox.made(ref, self.reductions)

    def wake(self, wait: Any) -> None:
        """The thing this process waits for has come. A wake for an earlier wait is stale and ignored."""
        execution = self.execution
        if execution.waiting is wait and execution.mode != DEAD and not execution.queued:
            execution.queued = True
            engine = execution.engine
            engine.queue.append(self)
            if not engine.scheduled:
                engine.kick()

    def _resumed(self, future: Any) -> None:
        """A future of asyncio that this process waits for is done; called by the loop."""
        self.execution.engine.resume(self, future)

    # ---- running

    def turn(self) -> None:
        """Runs the process until it waits, has no mail, or its turn is over. Called by the engine alone."""
        execution = self.execution
        engine = execution.engine
        if execution is engine.dead:  # since it was put into the queue
            return
        scheduler.current = self
        try:
            if execution.mode == NEW:
                execution = self.own_execution()
                execution.mode = RUNNING
                self._begin(execution)
            elif execution.coro is not None:
                self._step(execution)
            if execution.mode == IDLE and execution.mailbox:
                self._handle_mail(execution, execution.mailbox, engine)
        finally:
            scheduler.current = None
        if (
            execution.pending_signals is not UNSET
            and execution.mode != DEAD
            and self._handle_pending_signals(execution, engine)
        ):
            return
        if execution.mode == IDLE:
            self._rest(execution, engine)
        elif execution.mode != DEAD:
            self._wait(execution, engine)
        elif len(engine.spare_executions) < _POOLED:
            execution.reset()
            engine.spare_executions.append(execution)

    def _handle_pending_signals(self, execution: ExecutionState, engine: Engine) -> bool:
        """Handles, after a turn, the signals that were to wait for its end. True if that has ended the turn as well."""
        pending = execution.pending_signals
        if not isinstance(pending, UnhandledSignals):
            self.terminate(pending)
            return False
        execution.pending_signals = UNSET
        if execution.mode == IDLE:
            self._rest(execution, engine)
        else:
            self._wait(execution, engine)
        pending.handle()
        return True

    def unhandled_signals(self) -> UnhandledSignals | None:
        """What it has caused itself in this turn and not handled yet, if it runs and there is something."""
        pending = self.execution.pending_signals
        return pending if isinstance(pending, UnhandledSignals) else None

    def mailbox_scanned(self) -> None:
        """A receive of the process that runs has looked at all its mail."""
        unhandled = self.unhandled_signals()
        if unhandled is not None:
            unhandled.received()

    def monitored_nobody(self, monitor: Monitor) -> None:
        """The running process has made a monitor that has found nobody."""
        relations = self.own_relations()
        relations.monitors = including(relations.monitors, monitor)
        unhandled = self._own_unhandled()
        if unhandled is not None:
            unhandled.add(monitor)

    def _own_unhandled(self) -> UnhandledSignals | None:
        """As `unhandled_signals`, made if there are none; None for one that is about to end."""
        if self.execution.pending_signals is UNSET:
            self.execution.pending_signals = UnhandledSignals()
        return self.unhandled_signals()

    def sent_itself_exit(self, reason: Any) -> None:
        """The running process, which traps exits, has sent itself an exit signal."""
        unhandled = self._own_unhandled()
        if unhandled is not None:
            message = ExitMessage(self, reason)
            unhandled.exits.append(message)
            self.deliver(message)

    def stopped_trapping_exits(self) -> None:
        """The running process has cleared its flag: an exit signal from itself that it has not handled yet ends it."""
        unhandled = self.unhandled_signals()
        for message in unhandled.exits if unhandled is not None else ():
            if self.take(lambda mail, message=message: mail is message):
                self.execution.pending_signals = message.reason
                return

    def _handle_mail(self, execution: ExecutionState, mailbox: Mailbox, engine: Engine) -> None:
        plain = type(self) is Cell
        budget = engine.turn_messages
        look, stride, until = budget - 1, 1, 0.0
        execution.mode = RUNNING
        while True:
            if not execution.suspended:
                message = mailbox.popleft()
            elif taken := mailbox.take(self._passes_suspended):
                message = taken[0]
            else:
                break
            execution.message = message
            execution.reductions += 1
            try:
                coro = self.actor._handle(message) if plain else self.handle(message)
            except Unwind:
                break
            except BaseException as exc:
                self.crash(exc)
                break
            if coro is not None:
                self._drive(execution, coro)
                if execution.mode != IDLE:
                    break
                execution.mode = RUNNING
            elif execution.mode != RUNNING:
                break
            if not mailbox or execution.pending_signals is not UNSET:
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
            stride = min(stride * 2, _MOST_BETWEEN_LOOKS) if until - now > _HALF_A_TURN else 1
            look -= stride
        if execution.mode == RUNNING:
            execution.mode = IDLE

    def _rest(self, execution: ExecutionState, engine: Engine) -> None:
        """After a turn that has ended between two messages."""
        execution.message = execution.context = None
        mailbox = execution.mailbox
        if mailbox:
            if not execution.suspended or any(map(self._passes_suspended, mailbox)):
                engine.enqueue(self)
            else:
                execution.queued = False
            return
        execution.queued = False
        if execution.suspended:
            return
        if execution.reductions:
            relations = self.relations
            if relations.shared:
                relations = self.own_relations()
            relations.reductions += execution.reductions
            execution.reductions = 0
        # The execution state goes back, with its deque: that alone is larger than all that an idle process has.
        if mailbox is not None:
            mailbox.skips = None
        watcher = execution.watcher
        if watcher is not None:
            execution.watcher = None
            if not watcher.done:  # a call that the server will answer later
                self.add_monitor(watcher)
        self.execution = engine.rest
        if len(engine.spare_executions) < _POOLED:
            engine.spare_executions.append(execution)

    def _wait(self, execution: ExecutionState, engine: Engine) -> None:
        """After a turn in which its coroutine has begun to wait."""
        mailbox = execution.mailbox
        if mailbox is not None and not mailbox:
            execution.mailbox = None
            mailbox.skips = None
            if len(engine.spare_mailboxes) < _POOLED:
                engine.spare_mailboxes.append(mailbox)
        if execution.waiting_since is None:
            execution.waiting_since = engine.now()
        if execution.waiting is YIELD or execution.must_cancel:
            engine.enqueue(self)
        else:
            execution.queued = False

    def handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        """One message; a coroutine is driven to its end before the next. `turn` asks only subclasses."""
        return self.actor._handle(message)

    def become(self, actor: Process) -> None:
        """The plain process that runs goes on as a behaviour: its code ends, by an Unwind that the caller raises, it does not."""
        self.actor = actor
        actor._myRef = self  # pyright: ignore[reportPrivateUsage] - the name is Thespian's
        execution = self.own_execution()
        execution.mode = IDLE
        execution.coro = None

    def _begin(self, execution: ExecutionState) -> None:
        try:
            coro = self.actor._begin()
        except Unwind:
            return
        except BaseException as exc:
            self.crash(exc)
            return
        if coro is not None:
            self._drive(execution, coro)
        elif execution.mode == RUNNING:
            execution.mode = IDLE

    def _drive(self, execution: ExecutionState, coro: Coroutine[Any, Any, Any]) -> None:
        if execution.mode == DEAD:  # ended by what its code did before it made the coroutine
            coro.close()
            return
        execution.coro = coro
        if execution.context is None:
            # Its own context, or a contextvar set in one process would show in all that run after it.
            execution.context = copy_context()
        self._step(execution)

    def _step(self, execution: ExecutionState) -> None:
        """Resumes the coroutine until it waits again or ends."""
        coro, context, engine = execution.coro, execution.context, execution.engine
        assert coro is not None and context is not None
        execution.waiting = None
        execution.mode = RUNNING
        loop = engine.loop
        outer = scheduler.entered  # the process that has handed over to us, if one has
        if outer is not None:
            _leave_task(outer.engine.loop, outer)  # type: ignore[arg-type]
        scheduler.entered = self
        _enter_task(loop, self)  # type: ignore[arg-type]
        try:
            if execution.must_cancel:
                execution.must_cancel = False
                wait = context.run(coro.throw, asyncio.CancelledError())
            else:
                wait = context.run(coro.send, None)
        except StopIteration as stop:
            execution.coro = None
            execution.waiting_since = None
            execution.cancels, execution.must_cancel = 0, False  # the next one is another task
            if execution.mode == RUNNING:
                if isinstance(self.actor, FunctionProcess):
                    self.actor._returned(stop.value)  # pyright: ignore[reportPrivateUsage] - of this module
                else:
                    execution.mode = IDLE
            return
        except Unwind:
            execution.coro = None
            return
        except BaseException as exc:
            execution.coro = None
            if execution.mode != DEAD or isinstance(exc, KeyboardInterrupt):
                self.crash(exc)
            return
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]
            scheduler.entered = outer
            if outer is not None:
                _enter_task(outer.engine.loop, outer)  # type: ignore[arg-type]
        if execution.mode == DEAD:  # ended itself, and a finally clause of its code waits
            engine.unwind(coro, wait, context)
            return
        execution.waiting = wait
        if isinstance(wait, Wait):
            execution.mode = RECEIVING if wait.on_mail else BLOCKED
        elif wait is None:  # a bare yield, asyncio.sleep(0): the others first
            execution.mode = BLOCKED
            execution.waiting = YIELD
        else:
            execution.mode = BLOCKED
            wait._asyncio_future_blocking = False
            wait.add_done_callback(self._resumed, context=engine.context)
            if execution.must_cancel and wait.cancel():
                execution.must_cancel = False

    def _passes_suspended(self, message: Any) -> bool:
        # Suspended by sys: user messages wait, requests of sys and the parent's exit do not.
        return isinstance(message, SystemMessage) or (
            type(message) is ExitMessage and message.pid is (self.relations.parent or self)
        )
