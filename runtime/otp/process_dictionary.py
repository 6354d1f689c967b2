"""The process dictionary: `erlang:put/2`, `get/0,1`, `get_keys/0,1`, `erase/0,1`, with `$ancestors` and `$callers` in it.

It belongs to the running process, goes with it, and nobody else writes to it; others see it by `process_info(pid,
"dictionary")`. What a process has from its start, as `proc_lib` and Elixir's `Task` put it there, is entered when its dictionary
is first touched: a process that never asks has none. Keys are told apart as in Erlang: 1, 1.0 and True are three.
"""

from __future__ import annotations

from typing import Any, Final

from runtime.core.actor import FunctionProcess
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler
from runtime.otp.exact_key import ExactDict

_MISSING: Final = object()


def _own() -> ExactDict[Any]:
    cell = scheduler.current
    if cell is None:
        raise RuntimeError("this works only inside a process")
    rare = cell.own_rare()
    if rare.dictionary is None:
        rare.dictionary = initial_dictionary(cell)
    return rare.dictionary


def initial_dictionary(cell: Cell) -> ExactDict[Any]:
    """What a process has in it before it puts anything there: `$ancestors` (names or pids) and a task's `$callers` (pids)."""
    entries: ExactDict[Any] = ExactDict()
    for key, value in cell.actor.initial_dictionary().items():
        entries[key] = value
    return entries


def dictionary_of(cell: Cell) -> list[tuple[Any, Any]]:
    """The pairs in a living process's dictionary."""
    rare = cell.relations.rare
    found = None if rare is None else rare.dictionary
    return list((initial_dictionary(cell) if found is None else found).items())


def ancestors_of(cell: Cell) -> list[Any]:
    """`$ancestors`: the parent, its parent and so on, by name if it has one, up to a process that `proc_lib` has not started."""
    found: list[Any] = []
    parent = cell.relations.parent
    while parent is not None:
        parent_cell = parent.cell
        found.append(parent_cell.relations.name or parent)
        actor = getattr(parent_cell, "actor", None)
        if isinstance(actor, FunctionProcess) and not actor.initial_dictionary():
            break  # a plain process knows of no ancestors
        parent = parent_cell.relations.parent
    return found


def put(key: Any, value: Any) -> Any:
    """`erlang:put/2`: the old value, None if there was none."""
    entries = _own()
    old = entries.get(key)
    entries[key] = value
    return old


def get(key: Any = _MISSING) -> Any:
    """`erlang:get/1`: the value, None if there is none; without a key all pairs (`get/0`)."""
    entries = _own()
    return list(entries.items()) if key is _MISSING else entries.get(key)


def get_keys(value: Any = _MISSING) -> list[Any]:
    """`erlang:get_keys/0,1`: all keys, or those that have this value."""
    entries = _own()
    return [
        key
        for key, held in entries.items()
        if value is _MISSING or (type(held) is type(value) and held == value)
    ]


def erase(key: Any = _MISSING) -> Any:
    """`erlang:erase/0,1`: takes a key out, or all, and returns what `get` would have."""
    entries = _own()
    found = list(entries.items()) if key is _MISSING else entries.get(key)
    for one in list(entries) if key is _MISSING else [key]:
        entries.pop(one, None)
    return found
