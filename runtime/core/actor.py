"""What a process runs: a Thespian actor whose mail goes to `_handle`."""

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
    """What all OTP processes are: a Thespian actor whose mail goes to `_handle`.

    `_begin` runs when the process first runs, `_handle` for each message; both return None, or a coroutine
    that the trampoline drives to its end before the next message. `_cancel_timers` is called once it is dead.
    It has a slot (an attribute in the dict would cost an idle server a tenth of its memory): mixins have none of their own.
    """

    __slots__ = ("_myRef",)
    _myRef: Cell
    reports_crashes: ClassVar[bool] = True

    @property
    def pid(self) -> Pid:
        """Its own pid, from the moment it is spawned."""
        return self._myRef

    def now(self) -> float:
        """Seconds of its engine's monotonic clock, which is virtual under a deterministic engine."""
        return self._myRef.engine.now()

    def on_exit(self, hook: Callable[[Pid], object]) -> None:
        """`hook(pid)` runs the moment this process ends, however it ends, before any other process hears of it."""
        self._myRef.on_exit(hook)

    def _begin(self) -> Coroutine[Any, Any, Any] | None:
        return None

    def _handle(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        raise Exit("no_handler")

    def _crash_context(self, source: Any) -> dict[str, Any]:
        """What a crash report says of it beside the reason; `source` is the message at hand."""
        return {}

    def initial_dictionary(self) -> dict[str, Any]:
        """What its process dictionary has in it from the start."""
        return {}

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
        if type(result) is CoroutineType:
            return result
        self._returned(result)
        return None

    def _returned(self, value: Any) -> None:
        """The function is done."""
        self._myRef.terminate("normal")
