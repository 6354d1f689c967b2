"""Child specs and supervisor flags: validation, and starting and stopping a child by its spec."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from runtime.core import signals
from runtime.core.durations import is_duration
from runtime.core.exits import Throw, is_atom, is_shutdown, reason_of
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.scheduling import scheduler
from runtime.core.signals import ExitMessage
from runtime.core.timers import Timer
from runtime.otp.backoff import Backoff, Delays
from runtime.otp.erlang import TIMEOUT, await_down, is_process_alive
from runtime.otp.init_ack import StartError

STRATEGIES: Final = ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")
RESTARTS: Final = ("permanent", "transient", "temporary")
AUTO_SHUTDOWNS: Final = ("never", "any_significant", "all_significant")
TYPES: Final = ("worker", "supervisor")


class ChildSpec(Struct, frozen=True):
    """`supervisor:child_spec()`.

    `start` is `(async function, args)`; the function returns the pid or None for ignore, or raises StartError. `shutdown` is in
    ms, "brutal_kill" or "infinity"; the default is 5000 for workers, "infinity" for supervisors. `backoff` is an extension:
    see `runtime.otp.backoff`.
    """

    id: Any
    start: tuple[Callable[..., Awaitable[Any]], tuple[Any, ...]]
    restart: str = "permanent"
    shutdown: int | str | None = None
    type: str = "worker"
    significant: bool = False
    modules: tuple[Any, ...] = ()
    backoff: Backoff | None = None

    def restarts_after(self, reason: Any) -> bool:
        """True if a child of this restart type is restarted after an exit with `reason`."""
        return self.restart == "permanent" or (self.restart == "transient" and not is_shutdown(reason))


SPEC_OPTIONS: Final = frozenset({"restart", "shutdown", "type", "significant", "modules", "backoff"})


def check_options(where: str, start: Callable[..., Any], given: Iterable[str]) -> None:
    """Raises TypeError for an unknown option of a child spec or start function; the message suggests the nearest one."""
    parameters = signature(start).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = {p.name for p in parameters if p.kind is not Parameter.VAR_POSITIONAL} | SPEC_OPTIONS | {"id"}
    for option in given:
        if option not in known:
            near = get_close_matches(option, sorted(known), 1)
            hint = f", did you mean {near[0]!r}?" if near else f": it takes {', '.join(sorted(known))}"
            raise TypeError(f"{where}: there is no option {option!r}{hint}")


@dataclass(frozen=True, slots=True)
class SupFlags:
    """`supervisor:sup_flags()`. `period` in seconds."""

    strategy: str = "one_for_one"
    intensity: int = 1
    period: float = 5
    auto_shutdown: str = "never"


@dataclass(slots=True)
class Restarting:
    """`{restarting, Pid}`: stands for the pid of a child whose restart has failed or waits for its backoff."""

    old: Pid | None


class Child(Struct):
    """A child. `pid` is None while it is not running; `restarts` counts since the supervisor started."""

    spec: ChildSpec
    pid: Pid | Restarting | None = None
    args: tuple[Any, ...] = ()
    restarts: int = 0
    delays: Delays | None = None  # with a backoff, once it has been started

    def set_restarting(self) -> None:
        """Marks it as restarting."""
        if not isinstance(self.pid, Restarting):
            self.pid = Restarting(self.pid)

    @property
    def alive(self) -> bool:
        """True if it runs. Raises Error("badarg") for a process of another node, as OTP's supervisor does."""
        return isinstance(self.pid, Pid) and is_process_alive(self.pid)


def _is_one_of(value: Any, names: tuple[str, ...]) -> bool:
    """Whether it is one of these atoms. Safe for values that define `__eq__`: a wrong spec must not end a supervisor."""
    return isinstance(value, str) and value in names


def check_flags(flags: SupFlags) -> Any:
    """None if the flags are valid, else OTP's error reason."""
    if not _is_one_of(flags.strategy, STRATEGIES):
        return ("invalid_strategy", flags.strategy)
    if not isinstance(flags.intensity, int) or isinstance(flags.intensity, bool) or flags.intensity < 0:
        return ("invalid_intensity", flags.intensity)
    if not is_duration(flags.period) or flags.period == 0:
        return ("invalid_period", flags.period)
    if not _is_one_of(flags.auto_shutdown, AUTO_SHUTDOWNS):
        return ("invalid_auto_shutdown", flags.auto_shutdown)
    return None


def check_childspec(spec: Any, auto_shutdown: str, significance: bool = True) -> Any:
    """None if the child spec is valid, else OTP's error reason. With `significance` False `significant` is ignored."""
    if not isinstance(spec, ChildSpec):
        return ("invalid_child_spec", spec)
    if not hashable(spec.id):
        return ("invalid_id", spec.id)
    start: Any = spec.start
    if not (
        isinstance(start, tuple)
        and len(start) == 2
        and callable(start[0])
        and isinstance(start[1], tuple | list)
    ):
        return ("invalid_mfa", spec.start)
    if not _is_one_of(spec.restart, RESTARTS):
        return ("invalid_restart_type", spec.restart)
    problem = _check_significant(spec, auto_shutdown) if significance else None
    if problem is not None:
        return problem
    if not _is_one_of(spec.type, TYPES):
        return ("invalid_child_type", spec.type)
    shutdown = spec.shutdown
    if not (
        shutdown is None
        or _is_one_of(shutdown, ("brutal_kill", "infinity"))
        or (isinstance(shutdown, int) and not isinstance(shutdown, bool) and shutdown >= 0)
    ):
        return ("invalid_shutdown", shutdown)
    if not isinstance(spec.modules, tuple | list) and not is_atom(spec.modules, "dynamic"):
        return ("invalid_modules", spec.modules)
    if spec.backoff is not None and (problem := spec.backoff.problem()) is not None:
        return ("invalid_backoff", problem)
    return None


def _check_significant(spec: ChildSpec, auto_shutdown: str) -> Any:
    if not isinstance(spec.significant, bool):
        return ("invalid_significant", spec.significant)
    if spec.significant and auto_shutdown == "never":
        return ("bad_combination", [("auto_shutdown", "never"), ("significant", True)])
    if spec.significant and spec.restart == "permanent":
        return ("bad_combination", [("restart", "permanent"), ("significant", True)])
    return None


def hashable(key: Any) -> bool:
    """True if the key is hashable, as child ids must be."""
    try:
        hash(key)
    except Exception:  # of the caller's class: it must not end the supervisor
        return False
    return True


def complete(spec: ChildSpec) -> ChildSpec:
    """The spec with the default `shutdown` of its type filled in, and arguments that its caller cannot change any more."""
    function, args = spec.start
    if spec.shutdown is not None and type(args) is tuple:
        return spec
    shutdown = spec.shutdown
    if shutdown is None:
        shutdown = "infinity" if spec.type == "supervisor" else 5000
    return replace(spec, start=(function, tuple(args)), shutdown=shutdown)


async def start_child_process(
    spec: ChildSpec, args: tuple[Any, ...], plain_errors: bool = False
) -> tuple[Any, ...]:
    """Calls a child's start function: `("ok", pid or None)`, `("ok", pid, info)` or `("error", reason)`.

    The function may also return OTP's results: `("ok", pid)`, `("ok", pid, info)`, `("error", reason)`, "ignore". Another
    exception than StartError gives `("error", ("EXIT", reason))`, as in OTP's supervisor; with `plain_errors` it gives
    `("error", reason)`, as in Elixir's DynamicSupervisor, and a throw is then no return value.
    """
    try:
        result = await spec.start[0](*args)
    except StartError as error:
        return ("error", error.reason)
    except Throw as thrown:
        if plain_errors:
            return ("error", reason_of(thrown))
        result = thrown.value
    except (Exception, asyncio.CancelledError) as exc:
        if scheduler.current is None:  # the supervisor was killed meanwhile: its code is cleaning up
            raise
        reason = reason_of(exc)
        return ("error", reason if plain_errors else ("EXIT", reason))
    match result:
        case None | Pid():
            return ("ok", result)
        case ("ok", Pid()) | ("ok", Pid(), _) | ("error", _):
            return tuple(result)
        case "ignore":
            return ("ok", None)
    return ("error", result)


def _unlink_flush(pid: Pid) -> Any:
    """Unlinks a child. Returns the reason of its EXIT message if that has arrived, else None."""
    cell = scheduler.current
    assert cell is not None
    cell.unlink(pid)
    taken = cell.take(lambda message: isinstance(message, ExitMessage) and message.pid is pid)
    return taken[0].reason if taken else None


async def shut_down(pid: Pid, shutdown: int | str | None, linked: bool = True) -> Any:
    """Stops a child by its `shutdown`. Returns its exit reason.

    `linked`: the link stays until the child has ended, as in OTP's supervisor; Elixir's DynamicSupervisor unlinks first.
    """
    early = None if linked else _unlink_flush(pid)
    if early is not None:
        return early
    me = scheduler.current
    assert me is not None
    down = signals.DownReply(pid.cell)  # before the signal: afterwards the reason would be noproc
    pid.cell.exit_signal(me, "kill" if shutdown == "brutal_kill" else "shutdown", False)
    if isinstance(shutdown, int) and not down.done:
        reason = TIMEOUT if shutdown == 0 else await await_down(pid, shutdown)
        if reason is TIMEOUT:
            pid.cell.exit_signal(me, "kill", False)
    reason = await down
    ended = _unlink_flush(pid) if linked else None
    return ended if ended is not None and is_atom(reason, "noproc") else reason


async def shut_down_all(children: Iterable[tuple[Pid, int | str | None]], linked: bool = True) -> None:
    """Stops many children, `(pid, shutdown)` each: signals all of them first, then waits and kills those that are late.

    `linked` as in `shut_down`. Their EXIT messages stay in the mailbox: the caller is about to end.
    """
    me = scheduler.current
    assert me is not None
    pending: list[signals.DownReply] = []
    by_shutdown: dict[int | str | None, list[signals.DownReply]] = {}
    exits = {id(m.pid) for m in me.execution.mailbox or () if isinstance(m, ExitMessage)}
    for pid, shutdown in children:
        other = pid.cell
        if not linked:
            me.unlink(other)
        if other.execution.mode != DEAD and id(pid) not in exits:
            down = signals.DownReply(other)
            pending.append(down)
            by_shutdown.setdefault(shutdown, []).append(down)
    timers: list[Timer] = []
    for shutdown, downs in by_shutdown.items():
        signal = "kill" if shutdown == "brutal_kill" else "shutdown"
        for down in downs:
            down.target.exit_signal(me, signal, False)
        if isinstance(shutdown, int):
            timers.append(me.engine.call_later(shutdown / 1000, _kill_all, downs, me))
    try:
        for down in pending:
            await down
    finally:
        for timer in timers:
            timer.cancel()


def _kill_all(pending: list[signals.DownReply], source: Pid) -> None:
    for down in pending:
        if not down.done:
            down.target.exit_signal(source, "kill", False)
