"""The two parts of a process control block that are allocated on demand: execution state and relations.

A process at rest consists of a pid and an actor. While it has messages, runs or waits it has an `ExecutionState`; once it is
linked, monitored, named or has handled a message it has `Relations`. Processes without one share an instance that is never
written to: the engine's `fresh` (not run yet), `rest` or `dead`, and the `blank` of their page in the process table. Readers
need not care; writers go through `Cell.own_execution` and `Cell.own_relations`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import Struct

from runtime.core.modes import IDLE, NEW, Mode

if TYPE_CHECKING:
    from runtime.core.engine import Engine
    from runtime.core.mailbox import Mailbox
    from runtime.core.pid import Pid
    from runtime.core.process import Cell
    from runtime.core.process_table import Page
    from runtime.core.small_set import Some

UNSET: Final[Any] = object()


class Watcher(Protocol):
    """What is notified when a process ends: a monitor, a call without a reply yet, a start that is not acknowledged yet."""

    @property
    def done(self) -> bool:
        """True if it need not be notified any more."""
        ...

    def fire(self, pid: Pid | None, reason: Any) -> None:
        """The process has ended. Called at most once."""
        ...


class ExecutionState:
    """The state of a process that is not at rest. The engine takes it back when the process rests or ends.

    Nothing but the process's own coroutine may keep a reference to it beyond a turn.

    Invariants: `queued` is True exactly while the process lies in the run queue or runs; `coro` is None unless mode is
    RECEIVING, BLOCKED or RUNNING.
    """

    __slots__ = (
        "cancels", "context", "coro", "engine", "mailbox", "message", "mode", "must_cancel", "pending_signals",
        "queued", "reductions", "shared", "suspended", "waiting", "waiting_since", "watcher",
    )  # fmt: skip

    def __init__(self, engine: Engine, mode: Mode = IDLE, shared: bool = False) -> None:
        self.engine = engine
        self.mode = mode
        self.shared = shared
        self.queued = mode == NEW
        self.suspended = False  # by `sys:suspend/1`
        self.must_cancel = False
        self.cancels = 0
        self.reductions = 0  # not yet added to `relations.reductions`
        self.mailbox: Mailbox | None = None
        self.coro: Coroutine[Any, Any, Any] | None = None
        self.context: Context | None = None
        # What the coroutine waits for; while NEW, what the starter passes to `_begin`.
        self.waiting: Any = None
        # The message being handled, for crash reports.
        self.message: Any = None
        # The call or start that began this turn. Kept here, not in `relations.monitored_by`, as nearly all are done by the
        # turn's end; `_rest` moves the others there.
        self.watcher: Watcher | None = None
        # When the coroutine first waited, in seconds of the engine's clock; for observers.
        self.waiting_since: float | None = None
        # Handled when its code next waits or returns: the reason of an exit signal that ends it, or `signals.UnhandledSignals`.
        self.pending_signals: Any = UNSET

    def reset(self) -> None:
        """Prepares it for another process, after the end of its own."""
        self.mode = IDLE
        self.queued = self.suspended = self.must_cancel = False
        self.cancels = self.reductions = 0
        self.coro = self.context = self.waiting_since = None
        self.pending_signals = UNSET


class Debugging(Protocol):
    """What `sys` attaches to a process that is traced or has statistics."""

    def message_in(self, cell: Cell, message: Any) -> None:
        """The process has taken a message."""
        ...

    def message_out(self, cell: Cell, reply: Any, caller: Cell | None) -> None:
        """The process has replied to a call."""
        ...


class ReceiveTimeout(Protocol):
    """The timeout that a server's callback has returned."""

    @property
    def ms(self) -> float:
        """Its length in ms."""
        ...

    def cancel(self) -> None:
        """A message has arrived first."""
        ...


class RareState(Struct, eq=False):
    """What few processes have. Each field belongs to one module, which sets and clears it."""

    debug: Debugging | None = None  # runtime.otp.sys
    timeout: ReceiveTimeout | None = None  # runtime.otp.gen_server
    children: dict[Pid, None] | None = None  # runtime.thespian: the actors that it has created
    source: str | None = None  # runtime.thespian: the hash of the loaded source of its class
    dictionary: Any = None  # runtime.otp.process_dictionary: an ExactDict, kept until the process ends
    group_leader: Pid | None = None  # runtime.otp.group_leader: inherited by the processes it spawns
    watched: bool = False  # runtime.thespian: an OTP process whose end is reported to the system base

    def blank(self) -> bool:
        """True if no field is set."""
        return (
            self.timeout is None
            and self.debug is None
            and self.children is None
            and self.source is None
            and self.dictionary is None
            and self.group_leader is None
            and not self.watched
        )


class Relations(Struct, eq=False):
    """Links, monitors, name and flags of a process. A dead one has no links, monitors or rare state."""

    page: Page | int  # of the process table; once dead, the number of its pid
    place: int = -1  # on the page; -1 until it is looked up
    shared: bool = False
    parent: Pid | None = None
    links: Some = ()  # of Cells
    monitors: Some = ()  # of Monitors that it owns, and of its requests that have no response yet
    monitored_by: Some = ()  # of Watchers
    exit_hooks: list[Callable[[Pid], object]] | None = None
    rare: RareState | None = None
    name: str | None = None
    overload: int = 0  # the bound of its mailbox in messages; 0: none
    reductions: int = 0  # messages handled up to its last rest
    trap_exit: bool = False

    def blank(self) -> bool:
        """True if the shared instance of the page says the same."""
        return (
            self.reductions == 0
            and not self.links
            and self.parent is None
            and self.name is None
            and not self.monitored_by
            and self.rare is None
            and not self.monitors
            and self.exit_hooks is None
            and not self.trap_exit
            and not self.overload
        )
