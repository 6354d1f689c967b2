"""The engine: run queue, process table, registered names, timers. One thread, one running process at a time.

`Engine` holds all that is the same under every scheduler; `AsyncioEngine` runs it on an event loop for the product,
`DeterministicEngine` under a virtual clock and a seeded scheduler for tests.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

from runtime.core import reports, scheduling, signals
from runtime.core.actor import FunctionProcess
from runtime.core.asyncio_task import Unwinding
from runtime.core.control_block import ExecutionState
from runtime.core.exits import Error
from runtime.core.mailbox import Mailbox
from runtime.core.modes import DEAD, NEW
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.process_table import ProcessTable
from runtime.core.scheduling import scheduler
from runtime.core.timers import Timer, Timers


class Engine:
    """The base of all engines. Subclasses provide `now` and `loop`, run the queue and fire the timers."""

    loop: asyncio.AbstractEventLoop
    node: Any = None  # the `runtime.nodes.node.Node` on this engine, if there is one
    node_name = signals.NODE

    def __init__(self) -> None:
        self.queue: deque[Cell] = deque()  # of runnable processes
        self.context = copy_context()  # callbacks run in it, not in the context of their cause
        self.scheduled = True  # a slice is scheduled; if not, `kick` after an append to the queue
        self.cell_class = Cell
        self.turn_messages = scheduling.TURN_MESSAGES  # the most that one turn handles
        self.turn_began = 0.0  # by `perf_counter`, if the engine measures turns
        self.signals: deque[tuple[Cell | None, Any, Pid, Any]] = deque()
        self.names: dict[str, Cell] = {}
        self.table = ProcessTable()
        self.on_exit: list[Callable[[Pid, Any], None]] = []
        self.on_spawn: list[Callable[[Pid], None]] = []
        self.thespian: Any = None  # the Thespian system base on this engine, if there is one
        # As OTP's `persistent_term`: values that outlive processes; a key belongs to the module that sets it.
        self.persistent_terms: dict[Any, Any] = {}
        self.refused = 0  # messages dropped because a bounded mailbox was full
        self._draining = False
        self.fresh = ExecutionState(self, NEW, shared=True)  # see runtime.core.control_block
        self.rest = ExecutionState(self, shared=True)
        self.dead = ExecutionState(self, DEAD, shared=True)
        self.spare_executions: list[ExecutionState] = []  # for reuse
        self.spare_mailboxes: list[Mailbox] = []  # empty ones
        self.timers = Timers(self.timers_changed)
        # As `call_later`, with an absolute time of the engine's clock (seconds).
        self.call_at = self.timers.at
        self._unwinding: list[Unwinding] = []
        self._cleaning: set[asyncio.Task[None]] = set()  # the loop itself has weak references only

    # ---- the clock and the scheduler, for subclasses

    def now(self) -> float:
        """Seconds of this engine's monotonic clock."""
        return self.loop.time()

    def enqueue(self, cell: Cell) -> None:
        """Appends a runnable process, whose `execution.queued` is True, to the run queue."""
        self.queue.append(cell)
        if not self.scheduled:
            self.kick()

    def hand_over(self, caller: Cell, server: Cell, in_order: bool = False) -> None:
        """Called when `caller` is about to wait for `server` and the run queue is not empty.

        If `server` is last in the queue, an engine may run it at once and save both a round through the queue. With `in_order`
        it does so only if that overtakes no process that was made runnable for the same reason as the caller, or by it.
        """

    def kick(self) -> None:
        """Schedules a slice: the run queue is not empty any more."""

    def resume(self, cell: Cell, wait: Any) -> None:
        """Wakes `cell` from a callback of the loop, which runs in `context` and outside of all processes."""
        cell.wake(wait)

    def unique_bytes(self, size: int) -> bytes:
        """Random bytes for unique names; a deterministic engine derives them from its seed."""
        return os.urandom(size)

    # ---- processes

    def spawn_actor(
        self, actor: Any, parent: Cell | None = None, link: bool = False, cell_class: type[Cell] | None = None
    ) -> Cell:
        """Creates a process for an actor object; `link` links it to `parent`."""
        cell = (cell_class or self.cell_class)(self, actor, parent)
        actor._myRef = cell
        if parent is not None:
            rare = parent.relations.rare
            if rare is not None and rare.group_leader is not None:
                cell.own_rare().group_leader = rare.group_leader
        if link:
            assert parent is not None
            cell.link(parent)
        for hook in self.on_spawn:
            hook(cell)
        if cell.execution.mode == NEW:
            self.queue.append(cell)
            if not self.scheduled:
                self.kick()
        return cell

    def spawn(
        self, fn: Callable[..., Any], *args: Any, name: str | None = None, trap_exit: bool = False
    ) -> Pid:
        """`erlang:spawn/3` from outside of all processes: a process that runs `fn(*args)`, a function or an `async def`.

        Raises Error("badarg") if the name is taken or "undefined".
        """
        if name is not None and not self.is_free(name):
            raise Error("badarg")
        cell = self.spawn_actor(FunctionProcess(fn, args))
        if trap_exit:
            cell.own_relations().trap_exit = True
        if name is not None:
            self.register(name, cell)
        return cell

    def exited(self, cell: Cell, reason: Any) -> None:
        """Removes an ending process from the process table and frees its name, before anything else."""
        for hook in self.on_exit:
            hook(cell, reason)
        self.table.remove(cell)
        name = cell.relations.name
        if name is not None:
            del self.names[name]

    def report_crash(self, cell: Cell, reason: Any) -> None:
        """Emits a crash report: the process ends with a reason other than normal or a shutdown."""
        if getattr(cell.actor, "reports_crashes", True):
            reports.crash(cell, reason)

    def drain(self) -> None:
        """Delivers the exit and down signals of ended processes in order, and those that they cause in turn."""
        if self._draining:
            return
        self._draining = True
        signals = self.signals
        current = scheduler.current
        try:
            while signals:
                target, monitor, source, reason = signals.popleft()
                if target is not None:
                    target.exit_signal(source, reason, True)
                elif current is not None and current.ended_monitored(monitor):
                    monitor.notify(reason)
                else:
                    monitor.fire(source, reason)
        finally:
            self._draining = False

    def unwind(self, coro: Coroutine[Any, Any, Any], wait: Any, context: Context) -> None:
        """Schedules the cancellation of the coroutine of a process that has ended while it waited."""
        self._unwinding.append(Unwinding(coro, wait, context))
        self.kick()

    def run_unwinding(self) -> None:
        """Cancels the coroutines passed to `unwind`."""
        while self._unwinding:
            unwinding = self._unwinding.pop()
            if unwinding.start():
                task = self.loop.create_task(unwinding.run())
                self._cleaning.add(task)
                task.add_done_callback(self._cleaning.discard)

    def refuse(self, cell: Cell, message: Any) -> bool:
        """Called when a bounded mailbox is full. True drops the message; messages of the runtime itself are never dropped."""
        if isinstance(message, signals.NeverRefused):
            return False
        self.refused += 1
        return True

    # ---- names

    def is_free(self, name: Any) -> bool:
        """True if `name` may be registered now."""
        return isinstance(name, str) and name not in self.names and name != "undefined"

    def register(self, name: str, cell: Cell) -> None:
        """`erlang:register/2`. Raises Error("badarg") if the name is taken, the process dead or named already."""
        if (
            not isinstance(name, str)
            or name in self.names
            or cell.execution.mode == DEAD
            or cell.relations.name is not None
            or name == "undefined"
        ):
            raise Error("badarg")
        self.names[name] = cell
        cell.own_relations().name = name

    def unregister(self, name: str) -> None:
        """`erlang:unregister/1`. Raises Error("badarg") if the name is not registered."""
        cell = self.names.pop(name, None) if isinstance(name, str) else None
        if cell is None:
            raise Error("badarg")
        cell.relations.name = None

    def destination(self, name: str, node: str) -> Any:
        """Resolves `{Name, Node}`: on this node to the process of that name or None, elsewhere to what accepts its messages."""
        if self.node is not None:
            return self.node.destination(name, node)
        return self.names.get(name) if node == self.node_name else None

    # ---- timers

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> Timer:
        """Runs `callback(*args)` on the engine, outside of all processes, after `seconds`."""
        return self.call_at(self.now() + seconds, callback, *args)

    def timers_changed(self) -> None:
        """Called when a new timer is due before all others: the subclass may have to wake up earlier."""


_default: Engine | None = None


def default_engine() -> Engine | None:
    """The engine used outside of all processes; None if none has been started."""
    return _default


def set_default(engine: Engine | None) -> None:
    """Sets the engine used outside of all processes."""
    global _default
    _default = engine


def current_engine() -> Engine:
    """The engine of the running process, else the default one. Raises RuntimeError if there is none."""
    current = scheduler.current
    if current is not None:
        return current.execution.engine
    if _default is None:
        raise RuntimeError("no engine runs: start an AsyncioEngine (or a DeterministicEngine) first")
    return _default
