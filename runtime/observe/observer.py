"""OTP's observer, without the windows: the supervision tree, the process table, one process in full.

It reads the engine's tables directly and sends no message, so it sees a process that hangs, is suspended or is restarting its
children as well as any other, and never waits. It owns nothing. Everything it returns is plain JSON values; a pid is its
URL-safe form `0.17.0`. State, messages and dictionaries go through `runtime.observe.term`, which masks secrets.

Status in the tree is the supervisor's view (`running`, `suspended`, `restarting`, `stopped`), in the process table it is
`process_info`'s (`running`, `runnable`, `waiting`, `suspended`).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from types import FrameType
from typing import Any, Final

from runtime.core import modes
from runtime.core.engine import Engine, current_engine
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.reports import ancestors, module_of
from runtime.core.scheduling import scheduler
from runtime.core.signals import Monitor
from runtime.observe import term
from runtime.otp import erlang
from runtime.otp.child_spec import Child
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.gen_server import GenServer
from runtime.otp.state_machine import StateMachine
from runtime.otp.supervisor import Supervisor

SORTS: Final = ("reductions", "message_queue_len", "memory", "restarts", "name", "module", "pid", "links")
MAILBOX_SAMPLE: Final = 20
LISTED: Final = 200  # links or monitors of one process that are named


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands: its supervisor, and what the supervisor knows of it."""

    supervisor: Pid
    child: Child


def pid_text(pid: Pid) -> str:
    """The URL-safe form of a pid: `0.17.0`."""
    return f"0.{pid.id}.0"


def parse_pid(text: str, engine: Engine | None = None) -> Pid | None:
    """The living process that `0.17.0`, `<0.17.0>` or a registered name means, else None."""
    engine = engine or current_engine()
    parts = text.strip("<>").split(".")
    if len(parts) == 3 and parts[0] == parts[2] == "0" and parts[1].isascii() and parts[1].isdigit():
        cell = engine.table.get(int(parts[1])) if len(parts[1]) < 19 else None
    else:
        cell = engine.names.get(text)
    return cell


# ---- what metrics, logs and operators ask about one process; nothing of it sends a message or waits


def running() -> Pid | None:
    """The process whose code runs right now; None outside of processes."""
    return scheduler.current


def name(pid: Pid) -> str | None:
    """Its registered name."""
    return pid.cell.relations.name


def mailbox(pid: Pid) -> int:
    """How many messages wait for it."""
    return len(pid.cell.execution.mailbox or ())


def reductions(pid: Pid) -> int:
    """How many messages it has handled."""
    return pid.cell.reductions


def behaviour(pid: Pid) -> type | None:
    """The class of its actor; None once it is dead."""
    actor = pid.cell.actor
    return None if actor is None else type(actor)


def module(pid: Pid) -> str:
    """`module:Class` of its actor, or of the function that a plain process runs."""
    return module_of(pid.cell.actor)


def peek(pid: Pid, attribute: str) -> Any:
    """One attribute of its actor at this moment; None if it has none of that name. A figure may be one message old."""
    return getattr(pid.cell.actor, attribute, None)


def attributes(pid: Pid) -> dict[str, Any]:
    """What its actor holds by name at this moment, unmasked: for checks, not for display."""
    return term.attributes(pid.cell.actor) or {}


def label(pid: Pid) -> str | None:
    """A process's registered name, else what it calls itself (`proc_lib:set_label/1`: the actor's attribute `label`)."""
    cell = pid.cell
    if cell.relations.name is not None:
        return cell.relations.name
    own = getattr(cell.actor, "label", None)
    return own if isinstance(own, str) else None


def status(cell: Cell) -> str:
    """`process_info`'s status of a living process."""
    return modes.status(cell.execution)


# ---- the tree


def children_of(cell: Cell, after: int = 0) -> Iterator[Child]:
    """The children of a supervisor in start order; of a DynamicSupervisor those younger than process number `after`."""
    for table in _tables(cell):
        for child in table:
            if not after or (isinstance(child.pid, Pid) and child.pid.id > after):
                yield child


def _tables(cell: Cell) -> list[Collection[Child]]:
    # By attribute: a supervisor that has not run its init yet has none of them.
    own = getattr(cell.actor, "children", None)
    dynamic = getattr(cell.actor, "dynamic", None)
    tables: list[Collection[Child]] = [
        table.values() for table in (own, dynamic) if isinstance(table, Mapping)
    ]
    waiting = getattr(cell.actor, "restarting", None)
    if isinstance(waiting, list):
        tables.append(waiting)
    return tables


def count_children(pid: Pid) -> int:
    """How many children a supervisor has, those that do not run included."""
    return sum(map(len, _tables(pid.cell)))


def is_supervisor(pid: Pid) -> bool:
    """True for a process that supervises others."""
    return getattr(pid.cell.actor, "kind", None) == "supervisor"


def is_dynamic(pid: Pid) -> bool:
    """True for a supervisor whose children come and go and have no ids of their own."""
    actor = pid.cell.actor
    return isinstance(actor, DynamicSupervisor) or bool(getattr(actor, "dynamic", None))


@dataclass(frozen=True, slots=True)
class ChildEntry:
    """A child of the tree as reports name it: its supervisor, its id, and `module:Class`, empty while it does not run."""

    supervisor: str
    child: str
    module: str


def entries(root: str, engine: Engine) -> Iterator[ChildEntry]:
    """All children below `root`. Those without an id of their own are one entry, under their supervisor's name."""
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
    """A supervisor's restart strategy; `one_for_one` for dynamic ones."""
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
    """The tree below `root` (a registered name or pid); None if it does not run.

    Of a supervisor with dynamic children at most `limit` are shown; `children_count` says how many there are, and
    `next_cursor`, when there are more, is the `after` of a call for the rest with that supervisor as the root.
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
    """The supervisor that a process is a child of, and its entry there; None for a process outside of the tree."""
    cell = pid.cell
    parent = cell.relations.parent.cell if cell.relations.parent is not None else None
    if parent is None or parent.execution.mode == DEAD or not is_supervisor(parent):
        return None
    actor = parent.actor
    if isinstance(actor, DynamicSupervisor):
        child = getattr(actor, "children", {}).get(cell)
    elif isinstance(actor, Supervisor) and getattr(actor, "dynamic", None):
        child = actor.dynamic.get(id(cell))
    else:
        child = next((one for one in children_of(parent) if one.pid is cell), None)
    return None if child is None else Place(parent.pid, child)


def restarts_of(cell: Cell) -> int:
    """How often its supervisor has restarted this child."""
    place = place_of(cell)
    return place.child.restarts if place is not None else 0


# ---- the process table


def row(cell: Cell) -> dict[str, Any]:
    """One line of the process table."""
    return {
        "pid": pid_text(cell),
        "name": label(cell),
        "module": module_of(cell.actor),
        "status": status(cell),
        "message_queue_len": len(cell.execution.mailbox) if cell.execution.mailbox else 0,
        "reductions": cell.reductions,
        "memory": erlang.memory_of(cell),
        "links": len(cell.relations.links),
        "restarts": restarts_of(cell),
    }


_KEYS: Final[dict[str, Callable[[Cell], Any]]] = {
    "reductions": attrgetter("reductions"),
    "message_queue_len": lambda cell: len(cell.execution.mailbox) if cell.execution.mailbox else 0,
    "memory": erlang.memory_of,
    "restarts": restarts_of,
    "links": lambda cell: len(cell.relations.links),
    "name": lambda cell: label(cell) or "\uffff",
    "module": lambda cell: module_of(cell.actor),
    "pid": lambda cell: cell.id,
}
_ASCENDING: Final = ("name", "module", "pid")


Page = tuple[list[dict[str, Any]], tuple[Any, int] | None]
CHUNK: Final = 500  # processes that are looked at without a pause


def processes(sort: str = "reductions", **rest: Any) -> Page:
    """A page of the process table at once; see `scan` for the arguments."""
    steps = scan(sort, **rest)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


async def processes_in_turns(sort: str = "reductions", **rest: Any) -> Page:
    """As `processes`, but lets others run after every CHUNK processes: for a table of many thousands."""
    steps = scan(sort, **rest)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        await asyncio.sleep(0)


def scan(
    sort: str,
    *,
    limit: int = 100,
    cursor: tuple[Any, int] | None = None,
    name: str | None = None,
    module: str | None = None,
    status_is: str | None = None,
    engine: Engine | None = None,
) -> Generator[None, None, Page]:
    """A page of the process table, and the cursor of the next page if there is one; pauses after every CHUNK processes.

    Sorted by one of SORTS: numbers from the greatest, names from the first. `name` and `module` are parts to look
    for, in either case; `cursor` is the (key, process number) of the last row of the page before. Raises ValueError
    for another sort.
    """
    if sort not in _KEYS:
        raise ValueError(f"sort: expected one of {', '.join(SORTS)}")
    engine = engine or current_engine()
    key = _KEYS[sort]
    descending = sort not in _ASCENDING
    wanted_name = name.lower() if name else None
    wanted_module = module.lower() if module else None
    after = None if cursor is None else (-cursor[0] if descending else cursor[0], cursor[1])
    every = list(engine.table.numbered())
    found: list[tuple[Any, int, Cell]] = []
    for start in range(0, len(every), CHUNK):
        if start:
            yield
        part = [one for one in every[start : start + CHUNK] if one[1].execution.mode != DEAD]
        if wanted_name is not None:
            part = [one for one in part if wanted_name in (label(one[1]) or "").lower()]
        if wanted_module is not None:
            part = [one for one in part if wanted_module in module_of(one[1].actor).lower()]
        if status_is is not None:
            part = [one for one in part if status(one[1]) == status_is]
        if descending:
            rows = [(-key(cell), number, cell) for number, cell in part]
        else:
            rows = [(number if sort == "pid" else key(cell), number, cell) for number, cell in part]
        # Ties go by age, oldest first, in both directions.
        found += rows if after is None else [one for one in rows if one[:2] > after]
    best = heapq.nsmallest(limit + 1, found)
    page = best[:limit]
    following = None
    if len(best) > limit and page:
        value, number, _ = page[-1]
        following = (-value if descending else value, number)
    return [row(cell) for _, _, cell in page if cell.execution.mode != DEAD], following


# ---- one process


def process(pid: Pid) -> dict[str, Any] | None:
    """Everything about one process; None if it is dead.

    Queued messages, current message and state are masked samples, not the values.
    """
    cell = pid.cell
    if cell.execution.mode == DEAD:
        return None
    place = place_of(cell)
    mailbox = cell.execution.mailbox or ()
    behaviour = next(
        (k.__name__ for k in type(cell.actor).__mro__ if k.__module__.startswith("runtime.")), "Actor"
    )
    return {
        **row(cell),
        "registered": cell.relations.name is not None,
        "behaviour": behaviour,
        "current_message": None if cell.execution.message is None else term.text(cell.execution.message),
        "current_since_ms": _since(cell),
        "current_stack": stack(cell),
        "mailbox": [term.text(message) for message in islice(mailbox, MAILBOX_SAMPLE)],
        "max_mailbox": cell.relations.overload or None,
        "links_count": len(cell.relations.links),
        "links": [named(other) for other in islice(cell.relations.links, LISTED)],
        "monitors": [
            {"pid": None, "name": one.name} if one.name else named(one.target.pid)  # pyright: ignore[reportOptionalMemberAccess]
            for one in islice(cell.relations.monitors, LISTED)
            if one.name or one.target is not None
        ],
        "monitored_by": [
            named(one.owner.pid)
            for one in islice(cell.relations.monitored_by, LISTED)
            if isinstance(one, Monitor)
        ],
        "ancestors": list(ancestors(cell)),
        "parent": None if cell.relations.parent is None else named(cell.relations.parent),
        "supervisor": None if place is None else named(place.supervisor),
        "restart": None if place is None else place.child.spec.restart,
        "shutdown": None if place is None else place.child.spec.shutdown,
        "strategy": strategy(cell) if is_supervisor(cell) else None,
        "children_count": count_children(cell) if is_supervisor(cell) else None,
        "trap_exit": cell.relations.trap_exit,
        "suspended": cell.execution.suspended,
        "state": state(cell),
    }


def named(pid: Pid) -> dict[str, Any]:
    """A pid with the name it has, if any."""
    return {"pid": pid_text(pid), "name": None if pid.cell.execution.mode == DEAD else label(pid.cell)}


def state(cell: Cell) -> Any:
    """The state of a behaviour as `format_status` shows it, else the actor's own attributes; masked and bounded."""
    actor = cell.actor
    if is_supervisor(cell):  # its state is its children, and these stand in the tree
        return None
    try:
        shown = actor.format_status() if isinstance(actor, GenServer) else term.attributes(actor)
        if shown is actor:
            shown = term.attributes(actor)
    except Exception as error:  # the actor's own code, and it may not be ready yet
        return f"<format_status raised {type(error).__name__}>"
    return term.show(shown)


def _since(cell: Cell) -> float | None:
    if cell.execution.message is None or cell.execution.waiting_since is None:
        return None
    return round(max(0.0, cell.engine.now() - cell.execution.waiting_since) * 1000, 1)


def stack(cell: Cell) -> list[str]:
    """Where the code of a waiting process stands, outermost first: `module:function:line`."""
    out: list[str] = []
    waiting: Any = cell.execution.coro
    while waiting is not None and len(out) < 20:
        frame: FrameType | None = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            module = frame.f_globals.get("__name__", "?")
            out.append(f"{module}:{frame.f_code.co_qualname}:{frame.f_lineno}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return out
