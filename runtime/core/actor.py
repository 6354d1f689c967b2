"""The base classes of what a process runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar

from thespian.actors import Actor

from runtime.core.exits import Exit
from runtime.core.pid import Pid

if TYPE_CHECKING:
    from runtime.core.process import Cell


class Process(Actor):
    """The base class of all OTP processes: a Thespian actor whose messages go to `_handle`.

    `_begin` runs in the first turn of the process, `_handle` for each message. Both return None or a coroutine, which the
    trampoline drives to its end before the next message. `_cancel_timers` is called when the process has ended.

    `_myRef` is a slot: in the instance's dict it would make an idle server a tenth larger. Mixins therefore have no slots.
    """

    __slots__ = ("_myRef",)
    _myRef: Cell
    reports_crashes: ClassVar[bool] = True

    @property
    def pid(self) -> Pid:
        """The pid of this process (`erlang:self/0`)."""
        return self._myRef

    def now(self) -> float:
        """The time of the engine's monotonic clock in seconds; virtual time under a deterministic engine."""
        return self._myRef.execution.engine.now()

    @property
    def message_queue_len(self) -> int:
        """How many messages are in its mailbox, as `erlang:process_info(self(), message_queue_len)`."""
        return len(self._myRef.execution.mailbox or ())

    def on_exit(self, hook: Callable[[Pid], object]) -> None:
        """Calls `hook(pid)` when this process ends, for whatever reason, before links and monitors are notified."""
        self._myRef.on_exit(hook)

    def _begin(self) -> Coroutine[Any, Any, Any] | None:
        return None

    def _handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        raise Exit("no_handler")

    def _crash_context(self, source: Any) -> dict[str, Any]:
        """What a crash report shows beside the reason; `source` is the message being handled."""
        return {}

    def initial_dictionary(self) -> dict[str, Any]:
        """The initial process dictionary."""
        return {}

    def _cancel_timers(self) -> None:
        """Called when the process has ended, for whatever reason: its timers must not keep it in memory."""

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        """Thespian's entry point: appends the message to the mailbox."""
        self._myRef.deliver(msg)


class FunctionProcess(Process):
    """A plain process: runs a function and ends with `normal` when it returns (`erlang:spawn/3`)."""

    __slots__ = ("_args", "_fn")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._fn = fn
        self._args = args

    def _begin(self) -> Coroutine[Any, Any, Any] | None:
        result = self._fn(*self._args)
        if type(result) is CoroutineType:
            return result
        self._returned(result)
        return None

    def _returned(self, value: Any) -> None:
        """The function has returned."""
        self._myRef.terminate("normal")
