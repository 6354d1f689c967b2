"""Elixir's `Registry`: names of any kind for processes, local to this node. Entries vanish the moment their process ends.

Reads and writes act on the table at once, without a message (Elixir's is an ETS table for the same reason). A unique
registry also serves as `("via", registry, key)` wherever a name is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Literal

from runtime.core import scheduling
from runtime.core.exits import Error
from runtime.core.pid import Pid
from runtime.core.scheduling import DEAD


class Registry:
    """`keys` is "unique" or "duplicate"; a process may hold many keys, in a duplicate registry one key many times."""

    def __init__(self, keys: Literal["unique", "duplicate"] = "unique") -> None:
        if keys not in ("unique", "duplicate"):
            raise ValueError(f'keys: expected "unique" or "duplicate", got {keys!r}')
        self.unique = keys == "unique"
        self._entries: dict[Hashable, list[tuple[Pid, Any]]] = {}
        self._keys: dict[Pid, list[Hashable]] = {}

    def register(self, key: Hashable, value: Any = None, pid: Pid | None = None) -> Pid:
        """`Registry.register/3` for the calling process (or `pid`). Raises Error(("already_registered", pid))."""
        holder = _caller() if pid is None else pid
        if holder.cell.execution.mode == DEAD:
            raise Error("noproc")
        entries = self._entries.get(key)
        if entries and self.unique:
            raise Error(("already_registered", entries[0][0]))
        if entries is None:
            entries = self._entries[key] = []
        entries.append((holder, value))
        held = self._keys.get(holder)
        if held is None:
            held = self._keys[holder] = []
            holder.cell.on_exit(self._gone)
        held.append(key)
        return holder

    def unregister(self, key: Hashable, pid: Pid | None = None) -> None:
        """`Registry.unregister/2`: takes all entries of the calling process (or `pid`) under the key away."""
        holder = _caller() if pid is None else pid
        held = self._keys.get(holder)
        if held and key in held:
            self._keys[holder] = [other for other in held if other != key]
            self._remove(key, holder)

    def lookup(self, key: Hashable) -> list[tuple[Pid, Any]]:
        """`Registry.lookup/2`: `(pid, value)` pairs in the order of registration."""
        return list(self._entries.get(key, ()))

    def keys(self, pid: Pid) -> list[Hashable]:
        """`Registry.keys/2`: the keys a process holds."""
        return list(self._keys.get(pid, ()))

    def update_value(self, key: Hashable, change: Callable[[Any], Any]) -> Any:
        """`Registry.update_value/3`: changes the calling process's own value in a unique registry; None if it has none."""
        holder = _caller()
        for index, (pid, value) in enumerate(self._entries.get(key, ())):
            if pid is holder:
                value = change(value)
                self._entries[key][index] = (holder, value)
                return value
        return None

    def dispatch(self, key: Hashable, callback: Callable[[Iterable[tuple[Pid, Any]]], Any]) -> None:
        """`Registry.dispatch/3`: calls `callback` with the entries under the key, if there are any."""
        entries = self._entries.get(key)
        if entries:
            callback(tuple(entries))

    def count(self) -> int:
        """`Registry.count/1`: entries in all."""
        return sum(len(entries) for entries in self._entries.values())

    # ---- the callbacks of a `via` module

    def whereis_name(self, key: Hashable) -> Pid | None:
        """The pid under a unique key, None if there is none."""
        entries = self._entries.get(key)
        return entries[0][0] if entries else None

    def register_name(self, key: Hashable, pid: Pid) -> None:
        """As `register`, for gen_server's `("via", registry, key)`."""
        self.register(key, None, pid)

    def unregister_name(self, key: Hashable) -> None:
        """Takes the key away from whoever holds it."""
        pid = self.whereis_name(key)
        if pid is not None:
            self.unregister(key, pid)

    def _gone(self, pid: Pid) -> None:
        for key in self._keys.pop(pid, ()):
            self._remove(key, pid)

    def _remove(self, key: Hashable, pid: Pid) -> None:
        rest = [entry for entry in self._entries.get(key, ()) if entry[0] is not pid]
        if rest:
            self._entries[key] = rest
        else:
            self._entries.pop(key, None)


def _caller() -> Pid:
    if scheduling.current is None:
        raise RuntimeError("outside of a process: say for which pid")
    return scheduling.current.pid
