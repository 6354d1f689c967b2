"""A small ordered set, for links and monitors, of which most processes have one or none.

The empty set is `()`, which needs no object. `including` and `without` change a set in place and return the set that results.
"""

from __future__ import annotations

from collections.abc import Iterator
from sys import getsizeof
from typing import Any, Final

from msgspec import Struct

FEW: Final = 4  # the most members kept in a tuple; more are kept in a dict


class SmallSet(Struct, eq=False):
    """A non-empty set in order of insertion, made with its first member. Members are hashable and neither tuples nor dicts.

    With one member it is as large as a tuple with one element. It has no `__len__`, which its truth value would call.
    """

    _members: Any  # the only member, a tuple of up to FEW members, or a dict whose keys are the members

    def __iter__(self) -> Iterator[Any]:
        """Iterates over a copy: the set may change meanwhile."""
        members = self._members
        return iter(tuple(members) if type(members) is tuple or type(members) is dict else (members,))

    def __contains__(self, one: object) -> bool:
        members = self._members
        return (
            one in members
            if type(members) is tuple or type(members) is dict
            else one is members or one == members
        )

    def __sizeof__(self) -> int:
        members = self._members
        own = object.__sizeof__(self)
        return own + getsizeof(members) if type(members) is tuple or type(members) is dict else own

    def add(self, one: Any) -> None:
        """Adds a member."""
        members = self._members
        if type(members) is dict:
            members[one] = None
        elif type(members) is tuple:
            if one not in members:
                members = (*members, one)
                self._members = members if len(members) <= FEW else dict.fromkeys(members)
        elif one is not members and one != members:
            self._members = (members, one)

    def discard(self, one: Any) -> None:
        """Removes a member, unless it is the only one."""
        members = self._members
        if type(members) is dict:
            members.pop(one, None)
            if len(members) <= FEW:
                self._members = tuple(members)
        elif type(members) is tuple and one in members:
            at = members.index(one)
            rest: tuple[Any, ...] = members[:at] + members[at + 1 :]
            self._members = rest[0] if len(rest) == 1 else rest


Some = SmallSet | tuple[()]


def size(some: Some) -> int:
    """The number of members."""
    if type(some) is not SmallSet:
        return 0
    members = some._members  # pyright: ignore[reportPrivateUsage] - of this file
    return len(members) if type(members) is tuple or type(members) is dict else 1


def including(some: Some, one: Any) -> SmallSet:
    """Adds `one` to the set."""
    if type(some) is not SmallSet:
        return SmallSet(one)
    some.add(one)
    return some


def without(some: Some, one: Any) -> Some:
    """Removes `one` from the set; `()` if it was the only member."""
    if type(some) is not SmallSet:
        return ()
    only = some._members  # pyright: ignore[reportPrivateUsage] - of this file; a call costs more than the rest
    if only is one or (type(only) is not tuple and type(only) is not dict and only == one):
        return ()
    some.discard(one)
    return some
