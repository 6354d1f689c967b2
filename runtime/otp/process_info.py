"""`erlang:process_info/1,2`."""

from __future__ import annotations

from gc import get_referents
from sys import getsizeof
from typing import Any, Final, overload

from runtime.core import modes
from runtime.core.exits import Error
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.reports import ancestors, module_of
from runtime.core.scheduling import scheduler
from runtime.core.signals import Monitor
from runtime.otp.group_leader import group_leader_of
from runtime.otp.init_ack import StartReply
from runtime.otp.process_dictionary import dictionary_of


@overload
def process_info(pid: Pid) -> dict[str, Any] | None: ...
@overload
def process_info(pid: Pid, items: str) -> tuple[str, Any] | None: ...
@overload
def process_info(pid: Pid, items: list[str]) -> list[tuple[str, Any]] | None: ...
def process_info(pid: Pid, items: str | list[str] | None = None) -> Any:
    """`erlang:process_info/1,2`: a dict, or for an item `(item, value)`, or for a list of items a list of these pairs.

    None if the process is dead. `memory` is an estimate in bytes. Raises Error("badarg") for an unknown item and for a process of
    another node.
    """
    if items is not None and not isinstance(items, str | list):
        raise Error("badarg")
    caller = scheduler.current
    if caller is not None and caller is not pid:
        caller.handle_signals()
    elif caller is not None and (unhandled := caller.unhandled_signals()) is not None:
        unhandled.looked_at(caller)
    found = _process_info(pid)
    if items is None:
        return found
    wanted = [items] if isinstance(items, str) else items
    if any(item not in _ITEMS for item in wanted):
        raise Error("badarg")
    if found is None:
        return None
    for item in wanted:  # items that the full dict does not include
        if item not in found:
            found[item] = _rare_item(pid.cell, item)
    pairs = [(item, found[item]) for item in wanted]
    return pairs[0] if isinstance(items, str) else pairs


def _rare_item(cell: Cell, item: str) -> Any:
    match item:
        case "dictionary":
            return dictionary_of(cell)
        case "initial_call":
            return module_of(cell.actor)
        case "group_leader":
            return group_leader_of(cell)
        case "priority":
            return "normal"  # there is one run queue
        case "suspending":
            return []  # `erlang:suspend_process` does not exist here
    stack = _stack(cell)
    if item == "current_stacktrace":
        return stack
    if item == "current_location":
        return stack[0] if stack else None
    return stack[0][:2] if stack else None


def _stack(cell: Cell) -> list[tuple[str, str, str, int]]:
    """The stack of its suspended coroutine, innermost call first: `(module, function, file, line)`."""
    found: list[tuple[str, str, str, int]] = []
    coro: Any = cell.execution.coro
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
        if frame is not None:
            code = frame.f_code
            found.append(
                (frame.f_globals.get("__name__", "?"), code.co_qualname, code.co_filename, frame.f_lineno)
            )
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None)
    return found[::-1]


_ITEMS: Final = frozenset(
    {
        "pid", "registered_name", "module", "status", "message_queue_len", "messages", "current_message", "links", "monitors",
        "monitored_by", "trap_exit", "reductions", "parent", "ancestors", "memory", "dictionary", "initial_call",
        "group_leader", "current_function", "current_location", "current_stacktrace", "priority", "suspending",
    }
)  # fmt: skip


def _process_info(pid: Pid) -> dict[str, Any] | None:
    if not isinstance(pid, Cell):
        raise Error("badarg")
    cell = pid
    if cell.execution.mode == DEAD:
        return None
    # A monitor without a target is of a process that another node is spawning.
    monitors: list[Any] = [
        m.name or m.target.pid for m in cell.relations.monitors if m.name or m.target is not None
    ]
    waiting = cell.execution.waiting  # a pending call, stop or start without a link monitors its target
    target = getattr(waiting, "target", None)
    if isinstance(target, Pid) and not (isinstance(waiting, StartReply) and waiting.starter is not None):
        monitors += [target] * getattr(waiting, "monitors", 1)
    return {
        "pid": pid,
        "registered_name": cell.relations.name,
        "module": module_of(cell.actor),
        "status": modes.status(cell.execution),
        "message_queue_len": len(cell.execution.mailbox) if cell.execution.mailbox else 0,
        "messages": list(cell.execution.mailbox) if cell.execution.mailbox else [],
        "current_message": cell.execution.message,
        "links": list(cell.relations.links),
        "monitors": monitors,
        "monitored_by": [m.owner.pid for m in cell.relations.monitored_by if isinstance(m, Monitor)],
        "trap_exit": cell.relations.trap_exit,
        "reductions": cell.reductions,
        "parent": cell.relations.parent,
        "ancestors": ancestors(cell),
        "memory": memory_of(cell),
    }


def memory_of(cell: Cell) -> int:
    """An estimate in bytes: control block, actor, its attributes one level deep, mailbox."""
    actor, execution, relations = cell.actor, cell.execution, cell.relations
    mailbox = execution.mailbox
    size = getsizeof(cell) + getsizeof(actor)
    if not execution.shared:
        size += getsizeof(execution)
    if not relations.shared:
        size += getsizeof(relations)
    # Not by `__dict__`: reading that creates a dict which the object then keeps.
    others, last = 0, None
    for value in get_referents(actor):
        if value is not cell and not isinstance(value, type):
            size += 8 + getsizeof(value)
            others, last = others + 1, value
    if others == 1 and type(last) is dict:  # a `__dict__`, or its only attribute
        size += sum(map(getsizeof, last.values()))
    for table in (relations.links, relations.monitors, relations.monitored_by, mailbox):
        if table:
            size += getsizeof(table)
    if mailbox:
        size += len(mailbox) * 100  # a guess: measuring each message would be expensive
    return size
