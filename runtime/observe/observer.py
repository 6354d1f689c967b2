"""OTP's observer as functions: the process table, and the details of a process. See also `supervision_tree`.

It reads the engine's tables without sending messages, so it never waits and also shows processes that hang, are suspended or are
restarting their children. Results are plain JSON values; a pid has the URL-safe form `0.17.0`. State and messages go through
`runtime.observe.term`, which masks secrets. A status is as of `process_info`: `running`, `runnable`, `waiting`, `suspended`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Generator
from itertools import islice
from operator import attrgetter
from types import FrameType
from typing import Any, Final

from runtime.core.engine import Engine, current_engine
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.reports import ancestors, module_of
from runtime.core.signals import Monitor
from runtime.core.small_set import size
from runtime.observe import term
from runtime.observe.process_info import label, named, pid_text, status
from runtime.observe.supervision_tree import count_children, is_supervisor, place_of, restarts_of, strategy
from runtime.otp.gen_server import GenServer
from runtime.otp.process_info import memory_of

SORTS: Final = ("reductions", "message_queue_len", "memory", "restarts", "name", "module", "pid", "links")
MAILBOX_SAMPLE: Final = 20
LISTED: Final = 200  # links or monitors of a process in its details

# ---- the process table


def row(cell: Cell) -> dict[str, Any]:
    """A row of the process table."""
    return {
        "pid": pid_text(cell),
        "name": label(cell),
        "module": module_of(cell.actor),
        "status": status(cell),
        "message_queue_len": len(cell.execution.mailbox) if cell.execution.mailbox else 0,
        "reductions": cell.reductions,
        "memory": memory_of(cell),
        "links": size(cell.relations.links),
        "restarts": restarts_of(cell),
    }


_KEYS: Final[dict[str, Callable[[Cell], Any]]] = {
    "reductions": attrgetter("reductions"),
    "message_queue_len": lambda cell: len(cell.execution.mailbox) if cell.execution.mailbox else 0,
    "memory": memory_of,
    "restarts": restarts_of,
    "links": lambda cell: size(cell.relations.links),
    "name": lambda cell: label(cell) or "\uffff",
    "module": lambda cell: module_of(cell.actor),
    "pid": lambda cell: cell.id,
}
_ASCENDING: Final = ("name", "module", "pid")


Page = tuple[list[dict[str, Any]], tuple[Any, int] | None]
CHUNK: Final = 500  # processes scanned without a pause


def processes(sort: str = "reductions", **rest: Any) -> Page:
    """A page of the process table; arguments as of `scan`."""
    steps = scan(sort, **rest)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


async def processes_in_turns(sort: str = "reductions", **rest: Any) -> Page:
    """As `processes`, but lets other work run after every CHUNK processes, for tables of many thousands."""
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
    """Returns a page of the process table and the cursor of the next page, or None; yields after every CHUNK processes.

    Sorted by one of SORTS: numbers descending, names ascending. `name` and `module` filter by substring, case-insensitively;
    `cursor` is (key, process number) of the last row of the previous page. Raises ValueError for an unknown sort.
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
        # Ties are sorted by age, oldest first, in both directions.
        found += rows if after is None else [one for one in rows if one[:2] > after]
    best = heapq.nsmallest(limit + 1, found)
    page = best[:limit]
    following = None
    if len(best) > limit and page:
        value, number, _ = page[-1]
        following = (-value if descending else value, number)
    return [row(cell) for _, _, cell in page if cell.execution.mode != DEAD], following


# ---- a process


def process(pid: Pid) -> dict[str, Any] | None:
    """The details of a process; None if it is dead. Messages and state are masked texts, not the values."""
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
        "links_count": size(cell.relations.links),
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


def state(cell: Cell) -> Any:
    """The state of a behaviour by `format_status`, else the attributes of the actor; masked and bounded."""
    actor = cell.actor
    if is_supervisor(cell):  # its state is its children, which the tree shows
        return None
    try:
        shown = actor.format_status() if isinstance(actor, GenServer) else term.attributes(actor)
        if shown is actor:
            shown = term.attributes(actor)
    except Exception as error:  # the actor's code, perhaps before its init has returned
        return f"<format_status raised {type(error).__name__}>"
    return term.show(shown)


def _since(cell: Cell) -> float | None:
    if cell.execution.message is None or cell.execution.waiting_since is None:
        return None
    return round(max(0.0, cell.engine.now() - cell.execution.waiting_since) * 1000, 1)


def stack(cell: Cell) -> list[str]:
    """The stack of a waiting process, outermost call first: `module:function:line`."""
    out: list[str] = []
    waiting: Any = cell.execution.coro
    while waiting is not None and len(out) < 20:
        frame: FrameType | None = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            module = frame.f_globals.get("__name__", "?")
            out.append(f"{module}:{frame.f_code.co_qualname}:{frame.f_lineno}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return out
