"""A set for what most processes have one of or none: links, monitors.

It keeps the order of arrival and is changed in place. Nobody has an empty one: `()` stands for that, so that who has none
needs no object, and `including` and `without` say what is there afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from sys import getsizeof
from typing import Any, Final

FEW: Final = 4  # members; more are looked up


class SmallSet:
    """Members are told apart by identity and equality, as a dict's keys; none may be a tuple or a dict.

    With one member it is as large as a tuple of that one.
    """

    __slots__ = ("_members",)

    def __init__(self, one: Any) -> None:
        self._members = one  # the only one itself; a tuple of a few; a dict, whose keys are many

    def __iter__(self) -> Iterator[Any]:
        """Those that are in it now: it may change meanwhile."""
        members = self._members
        return iter(tuple(members) if type(members) is tuple or type(members) is dict else (members,))

    def __len__(self) -> int:
        members = self._members
        return len(members) if type(members) is tuple or type(members) is dict else 1

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
        """Puts it last, if it is not in the set."""
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
        """Takes it out, if it is in the set and not the only one."""
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


def including(some: Some, one: Any) -> SmallSet:
    """The set with `one` in it."""
    if type(some) is not SmallSet:
        return SmallSet(one)
    some.add(one)
    return some


def without(some: Some, one: Any) -> Some:
    """The set without `one`; `()` if that was all."""
    if type(some) is not SmallSet:
        return ()
    only = some._members  # pyright: ignore[reportPrivateUsage] - of this file; a call costs more than the rest
    if only is one or (type(only) is not tuple and type(only) is not dict and only == one):
        return ()
    some.discard(one)
    return some
