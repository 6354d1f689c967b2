"""The functions of Erlang's module `erlang` that concern processes, and `timer:sleep/1`, under their own names.

They act for the running process. Outside of processes (in an HTTP handler or a test) functions that need no calling process
work on the default engine; the others raise RuntimeError. All times are milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, Final, Literal, overload

from runtime.core import signals
from runtime.core.actor import FunctionProcess
from runtime.core.alias import MONITOR_ALIASES, AliasMonitor
from runtime.core.durations import MAX_RECEIVE_MS, check_duration, check_receive_timeout, check_timeout
from runtime.core.engine import current_engine
from runtime.core.exits import Error, Unwind, is_atom
from runtime.core.modes import DEAD
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.core.scheduling import TIMEOUT, PendingReply, Receive, current_process, scheduler
from runtime.core.signals import NODE, Alias, Down, ExitMessage, Monitor
from runtime.otp.bif_timers import Timeout, cancel_timer, read_timer, send_after, start_timer
from runtime.otp.group_leader import group_leader
from runtime.otp.process_dictionary import erase, get, get_keys, put
from runtime.otp.process_info import process_info

__all__ = [
    "NODE", "TIMEOUT", "Down", "ExitMessage", "Timeout",
    "alias", "await_down", "cancel_timer", "demonitor", "erase", "exit", "get",
    "get_keys", "group_leader", "is_process_alive", "link", "make_ref", "monitor",
    "monotonic_time", "process_info", "processes", "put", "read_timer", "receive", "register", "registered", "self_", "send",
    "send_after", "sleep", "spawn", "spawn_link", "spawn_monitor", "start_timer", "trap_exit", "unalias", "unique_integer",
    "unlink", "unregister",
    "whereis", "yield_",
]  # fmt: skip

_integers: Final = count(1)

Dest = Pid | str | tuple[str, str] | Ref  # a process, a registered name, a name on a node, an alias


def _cell_of(pid: Any) -> Cell:
    if not isinstance(pid, Pid):
        raise Error("badarg")
    return pid.cell


def _local(pid: Any) -> Cell:
    """A process of this node. Raises Error("badarg") for anything else."""
    if not isinstance(pid, Cell):
        raise Error("badarg")
    return pid


def is_name_on_node(dest: Any) -> bool:
    """True for a destination `{Name, Node}`."""
    return (
        isinstance(dest, tuple) and len(dest) == 2 and isinstance(dest[0], str) and isinstance(dest[1], str)
    )


# ---- processes


@overload
def spawn(fn: Callable[..., Any], *args: Any, name: str | None = None, link: bool = False,
          monitor: Literal[False] = False, trap_exit: bool = False) -> Pid: ...  # fmt: skip
@overload
def spawn(fn: Callable[..., Any], *args: Any, name: str | None = None, link: bool = False,
          monitor: Literal[True], trap_exit: bool = False) -> tuple[Pid, Ref]: ...  # fmt: skip
def spawn(
    fn: Callable[..., Any],
    *args: Any,
    name: str | None = None,
    link: bool = False,
    monitor: bool = False,
    trap_exit: bool = False,
) -> Pid | tuple[Pid, Ref]:
    """`erlang:spawn_opt/4`: starts a process that runs `fn(*args)`, a function or an `async def`.

    Returns the pid, with `monitor` `(pid, ref)`. `name` registers the process and `trap_exit` sets its flag before it runs.
    Raises Error("badarg") if `fn` is not callable, or the name is taken or "undefined".
    """
    if not callable(fn):
        raise Error("badarg")
    parent = current_process() if link or monitor else scheduler.current
    engine = current_engine()
    if name is not None and not engine.is_free(name):
        raise Error("badarg")
    cell = engine.spawn_actor(FunctionProcess(fn, args), parent, link)
    if trap_exit:
        cell.own_relations().trap_exit = True
    if name is not None:
        engine.register(name, cell)
    if monitor:
        assert parent is not None
        return cell, parent.monitor(cell)
    return cell


def spawn_link(fn: Callable[..., Any], *args: Any) -> Pid:
    """`erlang:spawn_link/3`."""
    return spawn(fn, *args, link=True)


def spawn_monitor(fn: Callable[..., Any], *args: Any) -> tuple[Pid, Ref]:
    """`erlang:spawn_monitor/3`."""
    return spawn(fn, *args, monitor=True)


def self_() -> Pid:
    """`erlang:self/0`."""
    return current_process().pid


def is_process_alive(pid: Pid) -> bool:
    """`erlang:is_process_alive/1`. Raises Error("badarg") for a process of another node."""
    alive = _local(pid).execution.mode != DEAD
    caller = scheduler.current
    if caller is not None and (unhandled := caller.unhandled_signals()) is not None:
        if not alive and unhandled.tell_of(pid):
            caller.handle_signals()
        elif pid is not caller:
            unhandled.asked()
    return alive


def processes() -> list[Pid]:
    """`erlang:processes/0`: all living processes, oldest first."""
    return list(current_engine().table)


def exit(pid: Pid, reason: Any) -> Literal[True]:
    """`erlang:exit/2`: sends an exit signal. To end the caller use `exits.exit(reason)`.

    Raises Error("badarg") if `pid` is not a pid; a registered name is not.
    """
    target = _cell_of(pid)
    caller = scheduler.current
    if target is not caller:
        if caller is not None and (unhandled := caller.unhandled_signals()) is not None:
            unhandled.answered()
        target.exit_signal(pid if caller is None else caller, reason, False)
        return True
    assert caller is not None
    if caller.relations.trap_exit and not is_atom(reason, "kill"):
        caller.caused_exit(caller, reason)
        return True
    caller.exit_signal(pid, reason, False)
    if caller.is_ending:  # a signal to oneself is synchronous
        reason = caller.execution.pending_signals
        caller.terminate(reason)
        raise Unwind
    return True


def trap_exit(flag: bool) -> bool:
    """`process_flag(trap_exit, Flag)`: returns the old value. Raises Error("badarg") if `flag` is not a bool."""
    cell = current_process()
    if not isinstance(flag, bool):
        raise Error("badarg")
    old = cell.relations.trap_exit
    if flag is not old:
        cell.own_relations().trap_exit = flag
        if (unhandled := cell.unhandled_signals()) is not None:
            unhandled.trap_exit_changed(cell)
    return old


# ---- links and monitors


def link(pid: Pid) -> Literal[True]:
    """`erlang:link/1`.

    A link to a dead process raises Error("noproc") or, if the caller traps exits, delivers an EXIT message. A link to a process
    of another node always returns True; if it fails, an exit signal arrives.
    """
    caller = current_process()
    other = _cell_of(pid)
    if other is caller:
        return True
    if other.execution.mode == DEAD:
        if not caller.relations.trap_exit:
            raise Error("noproc")
        caller.deliver(ExitMessage(pid, "noproc"))
    else:
        other.link(caller)
    return True


def unlink(pid: Pid) -> Literal[True]:
    """`erlang:unlink/1`. An EXIT message that has already arrived stays in the mailbox."""
    _cell_of(pid)
    caller = current_process()
    if (unhandled := caller.unhandled_signals()) is not None:
        unhandled.unlinked(caller, pid)
    caller.unlink(pid)
    return True


def monitor(target: Dest, *, alias: str | None = None, tag: Any = "DOWN") -> Ref:
    """`erlang:monitor/2,3` of a process: a `Down` message arrives when it ends.

    Its reason is "noproc" if there is no such process, and "noconnection" if its node is lost. As in OTP the "noproc" of a pid
    arrives when the caller waits; until then `demonitor` finds the monitor.

    With `alias` ("explicit_unalias", "demonitor" or "reply_demonitor") the reference is an alias too; `tag` is the `tag` of the
    Down. Raises Error("badarg") if `target` is not a pid, a name or `(name, node)`, or `alias` is none of the three.
    """
    caller = current_process()
    if alias is not None and alias not in MONITOR_ALIASES:
        raise Error("badarg")
    if (unhandled := caller.unhandled_signals()) is not None:
        unhandled.answered()
    name: Any = None
    if type(target) is Cell:
        cell = target
    elif isinstance(target, Pid):
        cell = target.cell
    elif is_name_on_node(target):
        name = target
        cell = caller.engine.destination(*name)
    else:
        if not isinstance(target, str | None):  # None: the result of `whereis` for an unregistered name
            raise Error("badarg")
        name = target
        cell = caller.engine.names.get(name)
    if cell is caller:
        return Ref()
    if cell is None or cell.execution.mode == DEAD:
        ref = AliasMonitor(caller, cell, name, alias, tag)
        caller.monitored_dead(ref)
        return ref
    if alias is not None or tag != "DOWN":
        return caller.monitored(AliasMonitor(caller, cell, name, alias, tag), cell)
    return caller.monitor(cell, name)


def demonitor(ref: Ref, flush: bool = False, info: bool = False) -> bool:
    """`erlang:demonitor/2`: removes a monitor of the caller; `flush` also removes its Down from the mailbox.

    Returns True; with `info`, whether the monitor still existed. A monitor of another process is not changed.
    Raises Error("badarg") if `ref` is not a reference or one of another node.
    """
    caller = current_process()
    if not isinstance(ref, Ref) or ref.is_external:
        raise Error("badarg")
    found = isinstance(ref, Monitor) and ref in caller.relations.monitors
    if found:
        assert isinstance(ref, Monitor)
        unhandled = caller.unhandled_signals()
        if unhandled is not None:
            found = unhandled.withdraw(ref)
            unhandled.answered()
        caller.drop(ref)
        if ref.target is not None:
            # For `(name, node)` on a node that is not connected Erlang says that the monitor was gone, yet no Down arrives.
            found = found and ref.target.is_connected
            ref.target.drop_monitor(ref)
            ref.target = None
        if isinstance(ref, AliasMonitor):
            ref.removed()
    elif flush and isinstance(ref, Monitor) and ref.owner is caller:
        caller.take(lambda message: isinstance(message, Down) and message.ref is ref, ref)
    if info:
        return found
    return True


async def await_down(pid: Pid, timeout: float | None = None) -> Any:
    """Waits until a process ends; returns its exit reason ("noproc" if it was dead), or TIMEOUT after `timeout` ms."""
    check_timeout(timeout)
    reply = signals.DownReply(_cell_of(pid))
    if timeout is None or reply.done:
        return await reply
    timer = pid.cell.engine.call_later(timeout / 1000, _down_timeout, reply)
    try:
        return await reply
    finally:
        timer.cancel()


def _down_timeout(reply: signals.DownReply) -> None:
    if not reply.done:
        reply.target.drop_monitor(reply)
        reply.resolve(TIMEOUT)


# ---- messages


def send(dest: Dest, message: Any) -> Any:
    """`Dest ! Message`: returns the message, which is dropped if the pid is dead, the alias inactive or the node unreachable.

    Raises Error("badarg") for a name that is not registered here (never for `(name, node)`), and TypeError for a message that
    cannot be sent to another node.
    """
    if type(dest) is Cell:
        execution = dest.execution
        if execution.queued and execution.mailbox and not dest.relations.overload:
            execution.mailbox.append(message)  # it has messages and will run: `deliver` would do no more
        else:
            dest.deliver(message)
        return message
    if isinstance(dest, Pid):
        dest.cell.deliver(message)
        return message
    engine = current_engine()
    if isinstance(dest, str):
        cell = engine.names.get(dest)
        if cell is None:
            raise Error("badarg")
    elif isinstance(dest, Ref):
        cell = dest
    elif is_name_on_node(dest):
        cell = engine.destination(*dest)
        if cell is None:
            return message
    else:
        raise Error("badarg")
    cell.deliver(message)
    return message


def alias(reply: bool = False) -> Ref:
    """`erlang:alias/1`: a reference to which messages for the caller can be sent, until `unalias`; with `reply` one message."""
    return Alias(current_process(), reply)


def unalias(ref: Ref) -> bool:
    """`erlang:unalias/1`: False if `ref` is not an active alias of the caller. Raises Error("badarg") if it is no reference."""
    if not isinstance(ref, Ref):
        raise Error("badarg")
    if not isinstance(ref, Alias | AliasMonitor) or ref.owner is not current_process() or not ref.active:
        return False
    ref.active = False
    return True


def receive(
    match: Callable[[Any], bool] | None = None, timeout: float | None = None, *, refs: Sequence[Ref] = ()
) -> Awaitable[Any]:
    """Selective receive: waits for a message that `match` accepts (None: any), removes it from the mailbox and returns it.

    The other messages stay, in order. After `timeout` ms (None: infinity, 0: do not wait) the result is `TIMEOUT`. `match` must
    be a guard: a pure function of the message and of the values it closes over. A message that it has refused is not tested
    again, nor by a match with the same code and constants; a match on a new reference skips messages that are older.

    `refs` says that only messages with one of these references match: those older than all of them are never tested.
    """
    check_receive_timeout(timeout)
    return Receive(match, None if timeout is None else timeout / 1000, refs)


# ---- names


def register(name: str, pid: Pid) -> Literal[True]:
    """`erlang:register/2`. Raises Error("badarg") if the name is taken, or the process is dead or has a name."""
    current_engine().register(name, _local(pid))
    return True


def unregister(name: str) -> Literal[True]:
    """`erlang:unregister/1`. Raises Error("badarg") if the name is not registered."""
    current_engine().unregister(name)
    return True


def whereis(name: str) -> Pid | None:
    """`erlang:whereis/1`. Raises Error("badarg") if `name` is not a string."""
    if not isinstance(name, str):
        raise Error("badarg")
    return current_engine().names.get(name)


def registered() -> list[str]:
    """`erlang:registered/0`."""
    return list(current_engine().names)


# ---- time


async def sleep(ms: float) -> None:
    """`timer:sleep/1`."""
    if not isinstance(ms, int) or ms <= MAX_RECEIVE_MS:
        check_receive_timeout(ms)  # OTP splits a longer sleep into several receives
    check_duration(ms)
    engine = current_engine()
    reply = PendingReply()
    timer = engine.call_later(ms / 1000, reply.resolve, None)
    try:
        await reply
    finally:
        timer.cancel()


def monotonic_time() -> float:
    """`erlang:monotonic_time(millisecond)` by the engine's clock, with a fraction."""
    return current_engine().now() * 1000


async def yield_() -> Literal[True]:
    """`erlang:yield/0`: lets other processes run."""
    await asyncio.sleep(0)
    return True


def unique_integer() -> int:
    """`erlang:unique_integer([positive, monotonic])`."""
    return next(_integers)


def make_ref() -> Ref:
    """`erlang:make_ref/0`."""
    ref = Ref()
    if scheduler.current is not None:
        scheduler.current.mark_receive(ref)
    return ref
