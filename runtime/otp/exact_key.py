"""Erlang's equality `=:=`: 1, 1.0 and True are three terms, while Python holds them for one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, MutableMapping, ValuesView
from typing import Any, TypeVar

from runtime.core.bad_argument import bad_argument

V = TypeVar("V")


def exact(key: Any) -> Hashable:
    """A dict key for `key`, equal for two keys only if they have the same type too, also inside tuples and frozensets.

    Raises Error("badarg"), which is a TypeError too, if `key` is not hashable.
    """
    kind = type(key)
    if kind is str:
        return key
    if kind is int or kind is float or kind is bool or kind is complex:
        return (kind, key)
    if kind is tuple:
        return (tuple, *map(exact, key))
    if kind is frozenset:
        return (frozenset, frozenset(map(exact, key)))
    try:
        hash(key)
    except TypeError:
        raise bad_argument("key", "a term that can be hashed", key, ()) from None
    return key


def same(left: Any, right: Any) -> bool:
    """`Left =:= Right`: equal, and of the same types, also inside tuples, lists and dicts. Need not be hashable."""
    pairs: list[tuple[Any, Any]] = [(left, right)]
    while pairs:  # no recursion: terms may be nested as deep as memory allows
        left, right = pairs.pop()
        if left is right:
            continue
        if type(left) is not type(right):
            return False
        if isinstance(left, tuple | list):
            if len(left) != len(right):
                return False
            pairs += zip(left, right, strict=True)
        elif isinstance(left, dict):
            if left.keys() != right.keys():
                return False
            pairs += [(value, right[key]) for key, value in left.items()]
        elif not _equal(left, right):
            return False
    return True


def _equal(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except Exception:  # of a class that cannot be compared: no term is another one then
        return False


class ExactDict(MutableMapping[Any, V]):
    """A dict that compares keys by `exact`; iteration yields the keys themselves, in order of insertion."""

    __slots__ = ("_keys", "_values")

    def __init__(self) -> None:
        self._keys: dict[Hashable, Any] = {}
        self._values: dict[Hashable, V] = {}

    def __getitem__(self, key: Any) -> V:
        return self._values[exact(key)]

    def __setitem__(self, key: Any, value: V) -> None:
        place = exact(key)
        self._keys[place] = key
        self._values[place] = value

    def __delitem__(self, key: Any) -> None:
        place = exact(key)
        del self._values[place]
        del self._keys[place]

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._keys.values()))

    def __len__(self) -> int:
        return len(self._keys)

    def values(self) -> ValuesView[V]:
        """The values in order of insertion."""
        return self._values.values()
