"""Elixir's `Registry`: a local table from keys to processes. The entries of a process are removed when it ends.

The functions read and write the table directly, without a message, as Elixir's do with ETS. A unique registry can be used as
`("via", registry, key)` in the place of a name. Keys compare as in Erlang: 1, 1.0 and True are three keys.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from inspect import isawaitable
from typing import Any, Final, Literal

from runtime.core.engine import current_engine
from runtime.core.exits import Error
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.scheduling import PendingReply, scheduler
from runtime.otp.exact_key import exact


class _Any:
    def __repr__(self) -> str:
        return "ANY"


ANY: Final = _Any()  # `:_` in a pattern

Guard = Callable[[Any], bool]


def _matches(pattern: Any, value: Any) -> bool:
    """True if a value matches: ANY matches anything, tuples match by element, other values have to be the same."""
    if pattern is ANY:
        return True
    if isinstance(pattern, tuple):
        return (
            isinstance(value, tuple)
            and len(value) == len(pattern)
            and all(_matches(p, v) for p, v in zip(pattern, value, strict=True))
        )
    return type(pattern) is type(value) and pattern == value


class Registry:
    """A registry. `keys` is "unique" or "duplicate", where several processes, or one several times, can have one key.

    `listeners` are pids or registered names that get `("register", registry, key, pid, value)` and `("unregister", registry, key,
    pid)`; `registry` is `name`, by default the Registry itself. As in Elixir, the end of a process sends nothing. `meta` is the
    initial metadata. `partitions` has no effect: on one thread there is no lock contention.
    """

    def __init__(
        self,
        keys: Literal["unique", "duplicate"] = "unique",
        *,
        name: Any = None,
        listeners: Iterable[Pid | str] = (),
        partitions: int = 1,
        meta: Mapping[Hashable, Any] | None = None,
    ) -> None:
        if keys not in ("unique", "duplicate"):
            raise ValueError(f'keys: expected "unique" or "duplicate", got {keys!r}')
        if not isinstance(partitions, int) or isinstance(partitions, bool) or partitions < 1:
            raise ValueError(f"partitions: expected a whole number, 1 or more, got {partitions!r}")
        self.unique = keys == "unique"
        self.name = self if name is None else name
        self.listeners = tuple(listeners)
        self.partitions = partitions
        self._meta: dict[Hashable, Any] = {exact(key): value for key, value in (meta or {}).items()}
        self._entries: dict[Hashable, list[tuple[Pid, Any]]] = {}
        self._keys: dict[Pid, list[Hashable]] = {}  # the keys of each process
        # By key: the holder of its lock, then those who wait for it.
        self._locks: dict[Hashable, deque[PendingReply]] = {}
        self._originals: dict[Hashable, Hashable] = {}  # from the keys of _entries to those registered

    def __repr__(self) -> str:
        if self.name is self:
            return f"Registry({'unique' if self.unique else 'duplicate'})"
        return f"Registry({self.name!r})"

    def register(self, key: Hashable, value: Any = None, pid: Pid | None = None) -> Pid:
        """`Registry.register/3` for the calling process, or for `pid`. Raises Error(("already_registered", pid))."""
        holder = _caller() if pid is None else pid
        if holder.cell.execution.mode == DEAD:
            raise Error("noproc")
        place = exact(key)
        entries = self._entries.get(place)
        if entries and self.unique:
            raise Error(("already_registered", entries[0][0]))
        if entries is None:
            entries = self._entries[place] = []
            self._originals[place] = key
        entries.append((holder, value))
        held = self._keys.get(holder)
        if held is None:
            held = self._keys[holder] = []
            holder.cell.on_exit(self._gone)
        held.append(key)
        if self.listeners:
            self._notify_listeners(("register", self.name, key, holder, value))
        return holder

    def unregister(self, key: Hashable, pid: Pid | None = None) -> None:
        """`Registry.unregister/2`: removes all entries of the calling process, or of `pid`, under the key."""
        self._unregister(key, _caller() if pid is None else pid, lambda _value: True)

    def unregister_match(self, key: Hashable, pattern: Any, guard: Guard | None = None) -> None:
        """`Registry.unregister_match/4`: as `unregister`, for entries whose value matches (see `match`)."""
        self._unregister(
            key, _caller(), lambda value: _matches(pattern, value) and (guard is None or guard(value))
        )

    def _unregister(self, key: Hashable, holder: Pid, chosen: Guard) -> None:
        place = exact(key)
        entries = self._entries.get(place, [])
        rest = [entry for entry in entries if entry[0] is not holder or not chosen(entry[1])]
        gone = len(entries) - len(rest)
        if not gone:
            return
        self._put(place, rest)
        held = self._keys[holder]
        for _ in range(gone):
            held.pop(next(index for index, other in enumerate(held) if exact(other) == place))
        if self.listeners:
            self._notify_listeners(("unregister", self.name, key, holder))

    def lookup(self, key: Hashable) -> list[tuple[Pid, Any]]:
        """`Registry.lookup/2`: `(pid, value)` pairs in the order of registration."""
        return list(self._entries.get(exact(key), ()))

    def keys(self, pid: Pid) -> list[Hashable]:
        """`Registry.keys/2`: the keys of a process."""
        return list(self._keys.get(pid, ()))

    def values(self, key: Hashable, pid: Pid) -> list[Any]:
        """`Registry.values/3` (Elixir 1.12): the values of `pid` under the key."""
        return [value for holder, value in self._entries.get(exact(key), ()) if holder is pid]

    def update_value(self, key: Hashable, change: Callable[[Any], Any]) -> Any:
        """`Registry.update_value/3`: sets the value of the calling process to `change(old)`.

        Returns `(new, old)`, or "error" if it does not have the key. Raises Error("badarg") in a duplicate registry.
        """
        if not self.unique:
            raise Error("badarg")
        holder = _caller()
        entries = self._entries.get(exact(key), [])
        for index, (pid, old) in enumerate(entries):
            if pid is holder:
                new = change(old)
                entries[index] = (holder, new)
                return (new, old)
        return "error"

    # ---- metadata, sending, counting

    def meta(self, key: Hashable) -> tuple[Literal["ok"], Any] | Literal["error"]:
        """`Registry.meta/2`: `("ok", value)` or "error"."""
        place = exact(key)
        return ("ok", self._meta[place]) if place in self._meta else "error"

    def put_meta(self, key: Hashable, value: Any) -> Literal["ok"]:
        """`Registry.put_meta/3`."""
        self._meta[exact(key)] = value
        return "ok"

    def delete_meta(self, key: Hashable) -> Literal["ok"]:
        """`Registry.delete_meta/2`."""
        self._meta.pop(exact(key), None)
        return "ok"

    def send(self, key: Hashable, message: Any) -> Any:
        """`Registry.send/2`: sends a message to the process with a unique key and returns the message.

        Raises Error(("badarg", (key, message))) if there is none.
        """
        pid = self.whereis_name(key)
        if pid is None:
            raise Error(("badarg", (key, message)))
        pid.cell.deliver(message)
        return message

    def dispatch(self, key: Hashable, callback: Callable[[Iterable[tuple[Pid, Any]]], Any]) -> None:
        """`Registry.dispatch/3`: calls `callback` with the entries under the key, if there are any."""
        entries = self._entries.get(exact(key))
        if entries:
            callback(tuple(entries))

    def count(self) -> int:
        """`Registry.count/1`: the number of entries."""
        return sum(len(entries) for entries in self._entries.values())

    # ---- matching

    def match(self, key: Hashable, pattern: Any, guard: Guard | None = None) -> list[tuple[Pid, Any]]:
        """`Registry.match/4`: the entries under the key whose value matches `pattern` (with ANY for `:_`) and `guard`."""
        entries = self._entries.get(exact(key), ())
        return [
            entry for entry in entries if _matches(pattern, entry[1]) and (guard is None or guard(entry[1]))
        ]

    def count_match(self, key: Hashable, pattern: Any, guard: Guard | None = None) -> int:
        """`Registry.count_match/4`."""
        return len(self.match(key, pattern, guard))

    def select(
        self,
        pattern: tuple[Any, Any, Any] = (ANY, ANY, ANY),
        guard: Callable[[Any, Pid, Any], bool] | None = None,
        body: Callable[[Any, Pid, Any], Any] = lambda key, pid, value: (key, pid, value),
    ) -> list[Any]:
        """`Registry.select/2`: `body(key, pid, value)` for all entries that match `pattern` and `guard`.

        The three are the head, guards and body of a match specification.
        """
        return [
            body(*entry)
            for entry in self._all()
            if _matches(pattern, entry) and (guard is None or guard(*entry))
        ]

    def count_select(
        self,
        pattern: tuple[Any, Any, Any] = (ANY, ANY, ANY),
        guard: Callable[[Any, Pid, Any], bool] | None = None,
    ) -> int:
        """`Registry.count_select/2`."""
        return len(self.select(pattern, guard))

    def _all(self) -> Iterator[tuple[Any, Pid, Any]]:
        for place, entries in self._entries.items():
            for pid, value in entries:
                yield self._originals[place], pid, value

    async def lock(self, key: Hashable, function: Callable[[], Any]) -> Any:
        """`Registry.lock/3` (Elixir 1.16): returns the result of `function()`, which may be `async def`, run under a lock.

        The lock of a key is granted in the order of requests, is released when its holder ends, and is not reentrant.
        """
        place = exact(key)
        queue = self._locks.setdefault(place, deque())
        turn = PendingReply()
        queue.append(turn)
        queue[0].resolve(None)
        try:
            await turn
            result = function()
            return await result if isawaitable(result) else result
        finally:
            queue.remove(turn)
            if queue:
                queue[0].resolve(None)
            else:
                del self._locks[place]

    # ---- the callbacks of a `via` module

    def whereis_name(self, key: Hashable) -> Pid | None:
        """The process with a unique key, or None. Raises Error("badarg") in a duplicate registry, as for a `via` name of one."""
        if not self.unique:
            raise Error("badarg")
        entries = self._entries.get(exact(key))
        return entries[0][0] if entries else None

    def register_name(self, key: Hashable, pid: Pid) -> None:
        """As `register`, called for a name `("via", registry, key)`."""
        self.register(key, None, pid)

    def unregister_name(self, key: Hashable) -> None:
        """Removes a unique key."""
        pid = self.whereis_name(key)
        if pid is not None:
            self.unregister(key, pid)

    def via(self, key: Hashable, value: Any = None) -> tuple[str, Any, Hashable]:
        """`{:via, Registry, {registry, key, value}}`: a name that is registered with a value."""
        return ("via", self if value is None else _WithValue(self, value), key)

    def _gone(self, pid: Pid) -> None:
        for key in dict.fromkeys(map(exact, self._keys.pop(pid, ()))):
            self._put(key, [entry for entry in self._entries[key] if entry[0] is not pid])

    def _put(self, place: Hashable, entries: list[tuple[Pid, Any]]) -> None:
        if entries:
            self._entries[place] = entries
        else:
            self._entries.pop(place, None)
            self._originals.pop(place, None)

    def _notify_listeners(self, message: tuple[Any, ...]) -> None:
        for listener in self.listeners:
            pid = listener if isinstance(listener, Pid) else current_engine().names.get(listener)
            if pid is not None:
                pid.cell.deliver(message)


class _WithValue:
    """The `via` module of a name with a value."""

    def __init__(self, registry: Registry, value: Any) -> None:
        self._registry = registry
        self._value = value

    def whereis_name(self, key: Hashable) -> Pid | None:
        return self._registry.whereis_name(key)

    def register_name(self, key: Hashable, pid: Pid) -> None:
        self._registry.register(key, self._value, pid)

    def unregister_name(self, key: Hashable) -> None:
        self._registry.unregister_name(key)


def _caller() -> Pid:
    if scheduler.current is None:
        raise RuntimeError("outside of processes a pid is needed")
    return scheduler.current.pid
