"""Exit signals and process termination (`erlang:exit/2`, a crash, the end of a linked process)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runtime.core.actor import Process
from runtime.core.control_block import UNSET, ExecutionState
from runtime.core.exits import is_atom, is_shutdown, reason_of
from runtime.core.links import Linked
from runtime.core.modes import DEAD, RUNNING
from runtime.core.pid import Pid
from runtime.core.scheduling import Wait, scheduler
from runtime.core.signals import ExitMessage, UnhandledSignals
from runtime.core.small_set import without

_log = logging.getLogger("runtime")


class Exiting(Linked):
    """The part of a `Cell` that receives exit signals and terminates."""

    __slots__ = ()

    if TYPE_CHECKING:
        actor: Any
        execution: ExecutionState

        def deliver(self, message: Any) -> bool: ...

    def crash(self, exc: BaseException) -> None:
        """Ends the process with the reason of an exception that its code raised. Re-raises KeyboardInterrupt."""
        if isinstance(exc, KeyboardInterrupt):
            raise exc
        self.terminate(reason_of(exc))

    def terminate(self, reason: Any) -> None:
        """Ends the process now. Links and monitors are notified before this returns.

        Order, as in OTP: the name is freed, exit signals go to the links, then DOWN to the monitors.
        """
        execution = self.execution
        if execution.mode == DEAD:
            return
        engine = execution.engine
        if not is_shutdown(reason):
            engine.report_crash(self, reason)  # type: ignore[arg-type]
        was_running = execution.mode == RUNNING
        if not execution.shared:
            execution.mode = DEAD
        self.execution = engine.dead
        engine.exited(self, reason)  # type: ignore[arg-type]
        relations = self.relations  # not shared any more: `ProcessTable.remove` has given it its own
        if relations.exit_hooks is not None:
            self._run_exit_hooks(relations.exit_hooks)
            relations.exit_hooks = None
        coro = execution.coro
        if coro is not None and not was_running:
            execution.coro = None
            assert execution.context is not None
            engine.unwind(coro, execution.waiting, execution.context)
        if isinstance(self.actor, Process):
            self.actor._cancel_timers()  # pyright: ignore[reportPrivateUsage] - the underscore leaves the name to users
        if relations.monitors or relations.links or relations.monitored_by or execution.watcher is not None:
            self._signal_end(execution, reason)
        if relations.rare is not None:
            relations.rare = None
        if not execution.shared:
            execution.mailbox = execution.message = execution.waiting = execution.watcher = None
        self.actor = None
        if engine.signals:
            engine.drain()

    def _run_exit_hooks(self, hooks: list[Callable[[Pid], object]]) -> None:
        for hook in hooks:
            try:
                hook(self)
            except Exception:  # a hook that fails must not keep the process half alive
                _log.exception("an exit hook of %s failed", self)

    def _signal_end(self, execution: ExecutionState, reason: Any) -> None:
        """Removes its links and monitors and queues the signals of its end."""
        relations, signals = self.relations, execution.engine.signals
        for monitor in relations.monitors:
            if monitor.target is not None:
                monitor.target.drop_monitor(monitor)
        for other in relations.links:
            signals.append((other, None, self, reason))
        for monitor in relations.monitored_by:
            signals.append((None, monitor, self, reason))
        if execution.watcher is not None:
            signals.append((None, execution.watcher, self, reason))
        relations.links = relations.monitors = relations.monitored_by = ()

    def caused_exit(self, pid: Pid, reason: Any) -> None:
        """The running process has ended a linked process, `pid`, or, trapping exits, sent itself an exit signal."""
        raise NotImplementedError

    def exit_signal(self, source: Pid, reason: Any, linked: bool) -> None:
        """Handles an exit signal from `exit/2` or, if `linked`, from the end of a linked process."""
        execution, relations = self.execution, self.relations
        if execution.mode == DEAD:
            return
        if linked:
            if source not in relations.links:
                return  # unlinked meanwhile
            relations.links = without(relations.links, source)
        elif is_atom(reason, "kill"):
            self._die("killed")
            return
        if relations.trap_exit:
            waiting = execution.waiting
            if isinstance(waiting, Wait) and waiting.take_exit(source, reason):
                return
            if self._is_unhandled(source):
                self.caused_exit(source, reason)
            else:
                self.deliver(ExitMessage(source, reason))
        elif not is_atom(reason, "normal") or (scheduler.current is self and not linked):
            if linked and self._is_unhandled(source):
                self.caused_exit(source, reason)
            else:
                self._die(reason)

    def _is_unhandled(self, source: Pid) -> bool:
        """True for a signal that the process, as it runs, causes itself: it handles it when it waits."""
        return scheduler.current is self and not self.is_ending and source.is_connected

    @property
    def is_ending(self) -> bool:
        """True if it runs and an exit signal will end it when its code next waits or returns."""
        pending = self.execution.pending_signals
        return pending is not UNSET and not isinstance(pending, UnhandledSignals)

    def _die(self, reason: Any) -> None:
        if scheduler.current is self:
            if not self.is_ending:
                self.execution.pending_signals = reason
        else:
            self.terminate(reason)
