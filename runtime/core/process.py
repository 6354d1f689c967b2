"""The process control block, and the trampoline that runs the code of a process.

A process is a Thespian actor and a `Cell`, its control block, which is also its pid. The cell refers to the mailbox and the
suspended coroutine (`execution`) and to the links and monitors (`relations`), if there are any. Everything happens on the
engine's thread, and one process runs at a time:

* A message is appended to the mailbox when it is sent, and a signal acts when it is sent, so both keep the order of sending.
  A signal to the *running* process acts when its code next waits or returns (`pending_signals`), as a process in Erlang handles
  signals when it is scheduled.
* The signals of a process that ends go through the queue `engine.signals`, so that a chain of links needs no recursion.
* A cell is also what `asyncio.current_task()` returns in the process, so `asyncio.timeout` and `TaskGroup` work.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # asyncio's interface for implementations of Task
from collections.abc import Coroutine, Sequence
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
_MAX_STRIDE: Final = 8  # messages between two looks at the clock
_POOLED: Final = 1024  # objects kept for reuse


class Cell(AsyncioTask, ActorReference, Exiting):
    """A process control block, which is the process's pid. Internal to runtime/; users see a `Pid`.

    `execution` and `relations` may be shared with other processes: see `runtime.core.control_block`.
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
        """The engine that runs it."""
        return self.execution.engine

    @property
    def pid(self) -> Pid:
        """Itself, typed as users see it."""
        return self

    @property
    def reductions(self) -> int:
        """How many messages it has begun to handle."""
        return self.relations.reductions + self.execution.reductions

    def own_execution(self) -> ExecutionState:
        """Its own `ExecutionState`, for writing. The process must be alive."""
        execution = self.execution
        if execution.shared:
            spare = execution.engine.spare_executions
            self.execution = own = spare.pop() if spare else ExecutionState(execution.engine)
            own.mode, own.queued = execution.mode, execution.queued
            return own
        return execution

    # ---- messages

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

    def deliver_all(self, messages: Sequence[Any]) -> None:
        """Appends messages in this order, as `deliver` does with each: for little more than the cost of one."""
        if type(self) is not Cell or self.relations.overload:
            for message in messages:
                self.deliver(message)
        elif messages and self.deliver(messages[0]):
            mailbox = self.execution.mailbox
            assert mailbox is not None
            mailbox.extend(messages[1:])

    def take(self, match: Match, ref: Ref | None = None) -> tuple[Any, ...]:
        """Removes the first message that matches and returns it in a tuple; `()` if there is none.

        With `ref` only messages that contain it match: older ones are skipped.
        """
        mailbox = self.execution.mailbox
        if not mailbox:
            return ()
        return mailbox.take(match, 0 if ref is None else mailbox.older_than((ref,), self.reductions))

    def take_while(self, match: Match, most: int) -> list[Any]:
        """Removes the messages before the first that does not match, `most` at most, and returns them."""
        mailbox = self.execution.mailbox
        taken: list[Any] = []
        while mailbox and len(taken) < most and match(mailbox[0]):
            taken.append(mailbox.remove_at(0))
        return taken

    def mark_receive(self, ref: Ref) -> None:
        """Sets a receive marker: a receive that matches the new `ref` may skip the messages that are here."""
        mailbox = self.execution.mailbox
        if mailbox and len(mailbox) > LONG:
            mailbox.mark(ref, self.reductions)

    def wake(self, wait: Any) -> None:
        """Makes the process runnable if it still waits for `wait`; a wake for an earlier wait is ignored."""
        execution = self.execution
        if execution.waiting is wait and execution.mode != DEAD and not execution.queued:
            execution.queued = True
            engine = execution.engine
            engine.queue.append(self)
            if not engine.scheduled:
                engine.kick()

    def _resumed(self, future: Any) -> None:
        """Done callback of the asyncio future that the process waits for."""
        self.execution.engine.resume(self, future)

    # ---- running

    def turn(self) -> None:
        """Runs the process until it waits, has no messages, or its turn is over. For the engine only."""
        execution = self.execution
        engine = execution.engine
        if execution is engine.dead:  # it ended while it was in the queue
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
                self._handle_messages(execution, execution.mailbox, engine)
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
        """Handles the pending signals after a turn. True if the turn has been completed as well."""
        pending = execution.pending_signals
        if not isinstance(pending, UnhandledSignals):
            self.terminate(pending)
            return False
        if pending.fatal:
            self.terminate(pending.fatal[0].reason)
            return False
        execution.pending_signals = UNSET
        if execution.mode == IDLE:
            self._rest(execution, engine)
        else:
            self._wait(execution, engine)
        pending.handle()
        return True

    def unhandled_signals(self) -> UnhandledSignals | None:
        """The signals that the running process has caused itself in this turn, if there are any."""
        pending = self.execution.pending_signals
        return pending if isinstance(pending, UnhandledSignals) else None

    def handle_signals(self) -> None:
        """The running process waits within a function, such as `process_info`. Raises Unwind if a signal ends it."""
        pending = self.execution.pending_signals
        if pending is UNSET:
            return
        if isinstance(pending, UnhandledSignals):
            if not pending.fatal:
                self.execution.pending_signals = UNSET
                pending.handle()
                return
            pending = pending.fatal[0].reason
        self.terminate(pending)
        raise Unwind

    def mailbox_scanned(self) -> None:
        """A receive of the running process has scanned its whole mailbox."""
        unhandled = self.unhandled_signals()
        if unhandled is not None:
            unhandled.received()

    def monitored_dead(self, monitor: Monitor) -> None:
        """The running process has created a monitor of a process that does not exist."""
        relations = self.own_relations()
        relations.monitors = including(relations.monitors, monitor)
        unhandled = self._own_unhandled()
        if unhandled is not None:
            unhandled.add(monitor)

    def _own_unhandled(self) -> UnhandledSignals | None:
        """As `unhandled_signals`, created if missing; None if the process is about to end."""
        if self.execution.pending_signals is UNSET:
            self.execution.pending_signals = UnhandledSignals()
        return self.unhandled_signals()

    def ended_monitored(self, monitor: Any) -> bool:
        """The running process has ended a monitored process. False if the monitor is not its own or it is about to end."""
        unhandled = self._own_unhandled() if isinstance(monitor, Monitor) and monitor.owner is self else None
        if unhandled is None:
            return False
        unhandled.notified.append(monitor)
        return True

    def caused_exit(self, pid: Pid, reason: Any) -> None:
        unhandled = self._own_unhandled()
        if unhandled is not None:
            unhandled.add_exit(self, ExitMessage(pid, reason))

    def _handle_messages(self, execution: ExecutionState, mailbox: Mailbox, engine: Engine) -> None:
        plain = type(self) is Cell
        budget = engine.turn_messages
        next_look, stride, until = budget - 1, 1, 0.0
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
            if budget > next_look:
                continue
            if budget <= 0:
                break
            # Reading the clock costs as much as a small message: it is read less often while messages are small.
            now = perf_counter()
            if until == 0.0:
                until = (engine.turn_began or now) + TURN_SECONDS
            if now > until:
                break
            stride = min(stride * 2, _MAX_STRIDE) if until - now > _HALF_A_TURN else 1
            next_look -= stride
        if execution.mode == RUNNING:
            execution.mode = IDLE

    def _rest(self, execution: ExecutionState, engine: Engine) -> None:
        """Completes a turn that has ended between two messages."""
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
        # The execution state goes back to the pool with its mailbox: a deque is larger than a whole idle process.
        if mailbox is not None:
            mailbox.skips = None
        watcher = execution.watcher
        if watcher is not None:
            execution.watcher = None
            if not watcher.done:  # a call that the server will reply to later
                self.add_monitor(watcher)
        self.execution = engine.rest
        if len(engine.spare_executions) < _POOLED:
            engine.spare_executions.append(execution)

    def _wait(self, execution: ExecutionState, engine: Engine) -> None:
        """Completes a turn that has ended with the coroutine waiting."""
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
        """Handles one message. A hook for subclasses: `turn` calls the actor of a plain `Cell` directly."""
        return self.actor._handle(message)

    def become(self, actor: Process) -> None:
        """Turns the running plain process into a behaviour (`enter_loop`). The caller then raises Unwind to leave its code."""
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
        if execution.mode == DEAD:  # the callback ended the process before it returned the coroutine
            coro.close()
            return
        execution.coro = coro
        if execution.context is None:
            # A context of its own: a contextvar set in one process must not show in those that run after it.
            execution.context = copy_context()
        self._step(execution)

    def _step(self, execution: ExecutionState) -> None:
        """Runs the coroutine until it waits again or ends."""
        coro, context, engine = execution.coro, execution.context, execution.engine
        assert coro is not None and context is not None
        execution.waiting = None
        execution.mode = RUNNING
        loop = engine.loop
        outer = scheduler.entered  # the process that has handed over to this one, if any
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
            execution.cancels, execution.must_cancel = 0, False  # the next coroutine is another task
            if execution.mode == RUNNING:
                if isinstance(self.actor, FunctionProcess):
                    self.actor._returned(stop.value)  # pyright: ignore[reportPrivateUsage] - of this package
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
        if execution.mode == DEAD:  # it ended itself, and a finally clause of its code waits
            engine.unwind(coro, wait, context)
            return
        execution.waiting = wait
        if isinstance(wait, Wait):
            execution.mode = RECEIVING if wait.on_message else BLOCKED
        elif wait is None:  # a bare yield, as of asyncio.sleep(0)
            execution.mode = BLOCKED
            execution.waiting = YIELD
        else:
            execution.mode = BLOCKED
            wait._asyncio_future_blocking = False
            wait.add_done_callback(self._resumed, context=engine.context)
            if execution.must_cancel and wait.cancel():
                execution.must_cancel = False

    def _passes_suspended(self, message: Any) -> bool:
        # While suspended by sys a process handles system messages and the exit of its parent only.
        return isinstance(message, SystemMessage) or (
            type(message) is ExitMessage and message.pid is (self.relations.parent or self)
        )
