"""The current supervision tree.

It is read from the supervisors' tables and not by `which_children`, so that supervisors that hang or are restarting children are
shown too. A status is the supervisor's view: `running`, `suspended`, `restarting`, `stopped`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from runtime.core.engine import Engine, current_engine
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.reports import module_of
from runtime.observe import term
from runtime.observe.process_info import label, pid_text
from runtime.otp.child_spec import Child
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.state_machine import StateMachine
from runtime.otp.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a process in the tree: its supervisor and its entry there."""

    supervisor: Pid
    child: Child


def children_of(cell: Cell, after: int = 0) -> Iterator[Child]:
    """The children of a supervisor in start order; with `after` those running with a greater process number."""
    for table in _tables(cell):
        for child in table:
            if not after or (isinstance(child.pid, Pid) and child.pid.id > after):
                yield child


def _tables(cell: Cell) -> list[Collection[Child]]:
    # By `vars`, as the attributes do not exist before init has returned.
    match cell.actor:
        case DynamicSupervisor() as supervisor if "restarting" in vars(supervisor):
            return [supervisor.children.values(), supervisor.restarting.values()]
        case Supervisor() as supervisor if "children" in vars(supervisor):
            return [supervisor.children.values()]
    return []


def count_children(pid: Pid) -> int:
    """The number of children of a supervisor, including those that are not running."""
    return sum(map(len, _tables(pid.cell)))


def is_supervisor(pid: Pid) -> bool:
    """True for a supervisor."""
    return getattr(pid.cell.actor, "kind", None) == "supervisor"


def is_dynamic(pid: Pid) -> bool:
    """True for a supervisor whose children have no ids (DynamicSupervisor, simple_one_for_one)."""
    actor = pid.cell.actor
    return isinstance(actor, DynamicSupervisor) or strategy(pid.cell) == "simple_one_for_one"


@dataclass(frozen=True, slots=True)
class ChildEntry:
    """A child as named in reports: its supervisor, its id, and `module:Class`, empty while it is not running."""

    supervisor: str
    child: str
    module: str


def entries(root: str, engine: Engine) -> Iterator[ChildEntry]:
    """All children below `root`. The children of a dynamic supervisor are one entry, under its name."""
    cell = engine.names.get(root)
    if cell is not None:
        yield from _entries(cell)


def _entries(cell: Cell) -> Iterator[ChildEntry]:
    name = cell.relations.name or ""
    if is_dynamic(cell):
        yield ChildEntry(name, name, "")
        return
    for child in children_of(cell):
        below = child.pid.cell if isinstance(child.pid, Pid) else None
        runs = below is not None and below.execution.mode != DEAD
        identity = child.spec.id if isinstance(child.spec.id, str) else name
        yield ChildEntry(name, identity, module_of(below.actor) if below is not None and runs else "")
        if below is not None and runs and is_supervisor(below):
            yield from _entries(below)


def strategy(cell: Cell) -> str:
    """The restart strategy of a supervisor; `one_for_one` for a dynamic one."""
    flags = getattr(cell.actor, "flags", None)
    return getattr(flags, "strategy", "one_for_one")


def tree(
    root: str | Pid = "root",
    *,
    limit: int = 100,
    after: int = 0,
    depth: int = 50,
    engine: Engine | None = None,
) -> dict[str, Any] | None:
    """The tree below `root` (a registered name or pid) as plain JSON values; None if it is not running.

    Of a dynamic supervisor at most `limit` children are included. `children_count` is their number; `next_cursor`, if there are
    more, is `after` for a call with that supervisor as the root.
    """
    engine = engine or current_engine()
    cell = root.cell if isinstance(root, Pid) else engine.names.get(root)
    if cell is None or cell.execution.mode == DEAD:
        return None
    place = place_of(cell)
    return _node(cell, place.child if place else None, limit, after, depth)


def _node(cell: Cell, child: Child | None, limit: int, after: int, depth: int) -> dict[str, Any]:
    supervises = is_supervisor(cell)
    node: dict[str, Any] = {
        "name": label(cell) or (_id_text(child) if child else None) or pid_text(cell),
        "pid": pid_text(cell),
        "type": "supervisor" if supervises else "worker",
        "module": module_of(cell.actor),
        "status": "suspended" if cell.execution.suspended else "running",
        "restart": child.spec.restart if child else "permanent",
        "restarts": child.restarts if child else 0,
        "message_queue_len": len(cell.execution.mailbox) if cell.execution.mailbox else 0,
        "children": [],
    }
    if isinstance(cell.actor, StateMachine):
        node["state"] = term.text(cell.actor.state, 80).strip("'")
    if not supervises:
        return node
    node["strategy"] = strategy(cell)
    node["dynamic"] = is_dynamic(cell)
    node["children_count"] = count_children(cell)
    if depth <= 0:
        return node
    if not node["dynamic"]:
        node["children"] = [_child(one, limit, depth - 1) for one in children_of(cell)]
        return node
    page = list(islice(children_of(cell, after), limit + 1))
    more = len(page) > limit
    del page[limit:]
    node["children"] = [_child(one, limit, depth - 1) for one in page]
    last = page[-1].pid if more and page else None
    node["next_cursor"] = str(last.id) if isinstance(last, Pid) else None
    return node


def _child(child: Child, limit: int, depth: int) -> dict[str, Any]:
    if isinstance(child.pid, Pid) and child.pid.cell.execution.mode != DEAD:
        return _node(child.pid.cell, child, limit, 0, depth)
    return {
        "name": _id_text(child) or "?",
        "pid": None,
        "type": child.spec.type,
        "module": str(child.spec.modules[0]) if child.spec.modules else "",
        "status": "stopped" if child.pid is None else "restarting",
        "restart": child.spec.restart,
        "restarts": child.restarts,
        "message_queue_len": 0,
        "children": [],
    }


def _id_text(child: Child) -> str | None:
    identity = child.spec.id
    return None if identity is None else identity if isinstance(identity, str) else term.text(identity, 120)


def place_of(pid: Pid) -> Place | None:
    """The place of a process in the tree; None for a process that is not a supervisor's child."""
    cell = pid.cell
    parent = cell.relations.parent.cell if cell.relations.parent is not None else None
    if parent is None or parent.execution.mode == DEAD or not is_supervisor(parent):
        return None
    actor = parent.actor
    if isinstance(actor, DynamicSupervisor):
        child = vars(actor).get("children", {}).get(cell)
    elif isinstance(actor, Supervisor) and "children" in vars(actor):
        child = actor.strategy.by_pid(cell)
    else:
        child = None
    return None if child is None else Place(parent.pid, child)


def restarts_of(cell: Cell) -> int:
    """How often its supervisor has restarted it."""
    place = place_of(cell)
    return place.child.restarts if place is not None else 0
