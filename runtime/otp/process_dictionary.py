"""The process dictionary: `erlang:put/2`, `get/0,1`, `get_keys/0,1`, `erase/0,1`, with `$ancestors` and `$callers`.

The functions act on the dictionary of the running process; others read it by `process_info(pid, "dictionary")`. The entries that
`proc_lib` and Elixir's `Task` set at the start are added when the dictionary is first used, so that a process that never uses
it has none. Keys compare as in Erlang: 1, 1.0 and True are three keys.
"""

from __future__ import annotations

from typing import Any, Final

from runtime.core.actor import FunctionProcess
from runtime.core.process import Cell
from runtime.core.scheduling import current_process
from runtime.otp.exact_key import ExactDict

_MISSING: Final = object()


def _own() -> ExactDict[Any]:
    cell = current_process()
    rare = cell.own_rare()
    if rare.dictionary is None:
        rare.dictionary = initial_dictionary(cell)
    return rare.dictionary


def initial_dictionary(cell: Cell) -> ExactDict[Any]:
    """The initial entries: `$ancestors` (names or pids) and, for a task, `$callers` (pids)."""
    entries: ExactDict[Any] = ExactDict()
    for key, value in cell.actor.initial_dictionary().items():
        entries[key] = value
    return entries


def dictionary_of(cell: Cell) -> list[tuple[Any, Any]]:
    """The entries of a living process."""
    rare = cell.relations.rare
    found = None if rare is None else rare.dictionary
    return list((initial_dictionary(cell) if found is None else found).items())


def ancestors_of(cell: Cell) -> list[Any]:
    """`$ancestors`: the names, or else pids, of the parent, its parent and so on, up to one not started by `proc_lib`."""
    found: list[Any] = []
    parent = cell.relations.parent
    while parent is not None:
        parent_cell = parent.cell
        found.append(parent_cell.relations.name or parent)
        actor = getattr(parent_cell, "actor", None)
        if isinstance(actor, FunctionProcess) and not actor.initial_dictionary():
            break  # a plain process has no `$ancestors`
        parent = parent_cell.relations.parent
    return found


def put(key: Any, value: Any) -> Any:
    """`erlang:put/2`: sets a value and returns the old one, or None."""
    entries = _own()
    old = entries.get(key)
    entries[key] = value
    return old


def get(key: Any = _MISSING) -> Any:
    """`erlang:get/1`: the value of a key, or None; without a key all entries (`get/0`)."""
    entries = _own()
    return list(entries.items()) if key is _MISSING else entries.get(key)


def get_keys(value: Any = _MISSING) -> list[Any]:
    """`erlang:get_keys/0,1`: all keys, or the keys of a value."""
    entries = _own()
    return [
        key
        for key, found in entries.items()
        if value is _MISSING or (type(found) is type(value) and found == value)
    ]


def erase(key: Any = _MISSING) -> Any:
    """`erlang:erase/0,1`: removes a key, or all, and returns what `get` would have returned."""
    entries = _own()
    found = list(entries.items()) if key is _MISSING else entries.get(key)
    for one in list(entries) if key is _MISSING else [key]:
        entries.pop(one, None)
    return found
