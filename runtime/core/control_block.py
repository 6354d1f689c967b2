"""The two parts of a process's control block that most processes can do without most of the time.

A process at rest is an address and an actor. While it has mail, runs or waits for something it has an `ExecutionState`; once
it is linked, monitored, named or has handled a message it has `Relations`. Those without share one that is never written to:
the engine's `rest` (`fresh` before they run, `dead` in the end), and the `blank` of their page in the process table. So
whoever reads need not ask; whoever writes goes through `Cell.own_execution` and `Cell.own_relations`.
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
    """What hears of the end of a process: a monitor, a call that is not answered, a start that is not acknowledged."""

    @property
    def done(self) -> bool:
        """True once it no longer matters to it how the process ends."""
        ...

    def fire(self, pid: Pid | None, reason: Any) -> None:
        """The process has ended. Called once, unless it was dropped before."""
        ...


class ExecutionState:
    """What a process has while it is not at rest, lent by its engine until it rests or ends.

    Only its own coroutine, which ends before, keeps it from one turn to the next.

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
        self.suspended = False  # suspended by sys
        self.must_cancel = False
        self.cancels = 0
        self.reductions = 0  # those that `relations` does not count yet
        self.mailbox: Mailbox | None = None
        self.coro: Coroutine[Any, Any, Any] | None = None
        self.context: Context | None = None
        # What the coroutine waits for; of a NEW process what its start has for `_begin`.
        self.waiting: Any = None
        # The one being handled; kept for crash reports.
        self.message: Any = None
        # What ended its rest, or started it: a monitor as well, kept here because it is nearly always over before the turn is.
        self.watcher: Watcher | None = None
        # When a message was first left waiting, in the engine's seconds; for observers.
        self.waiting_since: float | None = None
        # Handled as soon as its code waits or returns: the reason of an exit signal that ends it, or `signals.UnhandledSignals`.
        self.pending_signals: Any = UNSET

    def reset(self) -> None:
        """As new, after the end of its process, which has left no mail here."""
        self.mode = IDLE
        self.queued = self.suspended = self.must_cancel = False
        self.cancels = self.reductions = 0
        self.coro = self.context = self.waiting_since = None
        self.pending_signals = UNSET


class Debugging(Protocol):
    """`sys`'s view of a process that is traced or counted."""

    def message_in(self, cell: Cell, message: Any) -> None:
        """The process takes a message."""
        ...

    def message_out(self, cell: Cell, reply: Any, caller: Cell | None) -> None:
        """A call to the process is answered."""
        ...


class ReceiveTimeout(Protocol):
    """The timeout of a server's callback."""

    @property
    def ms(self) -> float:
        """How long it is, in ms."""
        ...

    def cancel(self) -> None:
        """A message came before it."""
        ...


class RareState(Struct, eq=False):
    """What few processes have. Each part belongs to one module, which puts it there and takes it away."""

    debug: Debugging | None = None  # runtime.otp.sys
    timeout: ReceiveTimeout | None = None  # runtime.otp.gen_server
    children: dict[Pid, None] | None = None  # runtime.thespian: the actors that this one has made
    source: str | None = None  # runtime.thespian: the hash of the source that its class is from
    dictionary: Any = None  # runtime.otp.process_dictionary: an ExactDict, kept until the process ends
    group_leader: Pid | None = None  # runtime.otp.group_leader: handed on to those that it starts
    watched: bool = False  # runtime.thespian: of an OTP process, whose end its system base is notified of

    def blank(self) -> bool:
        """True if there is none of it."""
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
    """What binds a process to others, and the flags that it has set. The dead have no links, no monitors, no rare state."""

    page: Page | int  # of the process table; of the dead the number alone
    place: int = -1  # on the page; -1 until somebody looks it up
    shared: bool = False
    parent: Pid | None = None
    links: Some = ()  # of Cells
    monitors: Some = ()  # of Monitors, its own
    monitored_by: Some = ()  # of whatever has `fire(pid, reason)`
    exit_hooks: list[Callable[[Pid], object]] | None = None
    rare: RareState | None = None
    name: str | None = None
    overload: int = 0  # the mailbox's bound; 0 is none
    reductions: int = 0  # messages handled before its last rest
    trap_exit: bool = False

    def blank(self) -> bool:
        """True if there is nothing here that those of others might not say as well."""
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
