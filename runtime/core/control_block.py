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
    from runtime.core.process_table import Page

UNSET: Final[Any] = object()

# A set in order of arrival. Most have one member, and a dict for one is larger than a process.
Few = tuple[Any, ...] | dict[Any, None]
_FEW: Final = 4


def including(some: Few, one: Any) -> Few:
    """`some` and `one`; may be the same object."""
    if isinstance(some, dict):
        some[one] = None
    elif one not in some:
        return (*some, one) if len(some) < _FEW else dict.fromkeys((*some, one))
    return some


def without(some: Few, one: Any) -> Few:
    """`some` but for `one`; may be the same object."""
    if one not in some:
        return some
    if isinstance(some, dict):
        del some[one]
        return some or ()
    return tuple(other for other in some if other is not one)


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
    """What a process has while it is not at rest, lent by its engine until it rests or ends. Only its own coroutine, which ends
    before, keeps it from one turn to the next.

    Invariants: `queued` is True exactly while the process lies in the run queue or runs; `coro` is None unless mode is
    RECEIVING, BLOCKED or RUNNING.
    """

    __slots__ = (
        "cancels", "context", "coro", "engine", "mailbox", "message", "mode", "must_cancel", "pending_exit",
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
        # The reason of a signal that will end it as soon as its code waits or returns.
        self.pending_exit: Any = UNSET

    def reset(self) -> None:
        """As new, after the end of its process, which has left no mail here."""
        self.mode = IDLE
        self.queued = self.suspended = self.must_cancel = False
        self.cancels = self.reductions = 0
        self.coro = self.context = self.waiting_since = None
        self.pending_exit = UNSET


class Relations(Struct, eq=False):
    """What binds a process to others, and what it has been told to be. The dead have no links, no monitors, no extra."""

    page: Page | int  # of the process table; of the dead the number alone
    place: int = -1  # on the page; -1 until somebody looks it up
    shared: bool = False
    parent: Pid | None = None
    links: Few = ()  # of Cells
    monitors: Few = ()  # of Monitors, its own
    monitored_by: Few = ()  # of whatever has `fire(pid, reason)`
    exit_hooks: list[Callable[[Pid], object]] | None = None
    extra: dict[str, Any] | None = None  # rare state: sys debug, a server's timeout, Thespian's side
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
            and self.extra is None
            and not self.monitors
            and self.exit_hooks is None
            and not self.trap_exit
            and not self.overload
        )
