"""A process's mailbox, and selective receive that does not walk the same messages again.

Erlang's compiler lets a receive that waits for a new reference skip all that came before the reference was made. Here a long
mailbox remembers which messages a `match` has refused, and how many there were when a reference was made. Both rest on one
promise: `match` is a guard, a pure function of the message and of what it closes over, and messages do not change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType, NoneType
from typing import Any, Final

from runtime.core.pid import Pid, Ref

Match = Callable[[Any], bool]
Key = tuple[Any, ...]
Pattern = tuple[Key, list[Ref]]  # see `pattern`

LONG: Final = 64  # messages; a shorter mailbox is walked sooner than looked up
_REMEMBERED: Final = 8  # matches, and references, of one mailbox
_CONSTANT: Final = (str, int, float, bytes, NoneType, type, Pid)
_FIXED: Final = (*_CONSTANT, Ref, FunctionType, BuiltinFunctionType, ModuleType)


class _Skips:
    """What a long mailbox knows of its messages: positions, which taking a message moves."""

    __slots__ = ("after", "refused", "turn")

    def __init__(self, turn: int) -> None:
        self.turn = (
            turn  # the process's reductions: it is void once the process has handled mail in another way
        )
        self.refused: dict[Key, int] = {}  # so many messages do not match
        self.after: dict[Ref, int] = {}  # so many messages are older than the reference

    def taken(self, index: int) -> None:
        """The message there has left the mailbox."""
        _shift(self.refused, index)
        _shift(self.after, index)


def _shift(positions: dict[Any, int], index: int) -> None:
    for key, position in positions.items():
        if position > index:
            positions[key] = position - 1


def _remember(positions: dict[Any, int], key: Any, position: int) -> None:
    positions.pop(key, None)
    if len(positions) >= _REMEMBERED:
        del positions[next(iter(positions))]
    positions[key] = position


def _constant(value: Any) -> bool:
    return all(map(_constant, value)) if type(value) is tuple else isinstance(value, _CONSTANT)


def pattern(match: Match | None) -> Pattern | None:
    """What tells one match from another: its code and the constants it knows, and apart from these its references.

    None for one whose answer may change: it reads something that can. Loops, not expressions: it is worked out for each receive.
    """
    if type(match) is not FunctionType or match.__kwdefaults__:
        return None
    code, names = match.__code__, match.__globals__
    for const in code.co_consts:
        if type(const) is CodeType:
            return None
    for name in code.co_names:
        if not isinstance(names.get(name), _FIXED):
            return None
    key: list[Any] = [code]
    refs: list[Ref] = []
    known = list(match.__defaults__ or ())
    for cell in match.__closure__ or ():
        try:
            known.append(cell.cell_contents)
        except ValueError:  # a variable that has no value yet
            return None
    for value in known:
        if isinstance(value, Ref):
            key.append(Ref)
            refs.append(value)
        elif _constant(value):
            key.append((type(value), value))
        else:
            return None
    return tuple(key), refs


class Mailbox(deque[Any]):
    """Messages in order of arrival: `append` delivers, `popleft` takes the first, `take` the first that matches."""

    __slots__ = ("skips",)

    def __init__(self) -> None:
        self.skips: _Skips | None = None

    def take(self, match: Match) -> tuple[Any, ...]:
        """Removes the first message that matches and returns it in a tuple; `()` if there is none."""
        index = self.find(match)
        return () if index < 0 else (self.remove_at(index),)

    def find(self, match: Match, start: int = 0) -> int:
        """The place of the first message that matches, from `start` on; -1 if there is none."""
        for index, message in enumerate(self.scan(start), start):
            if match(message):
                return index
        return -1

    def scan(self, start: int = 0) -> Iterator[Any]:
        """The messages from a place on, oldest first; nothing may be delivered or taken meanwhile."""
        if start and len(self) - start < LONG:  # from the near end: a deque is walked block by block
            return iter([self[index] for index in range(start, len(self))])
        return islice(self, start, None) if start else iter(self)

    def remove_at(self, index: int) -> Any:
        """Takes out the message at this place."""
        message = self[index]
        del self[index]
        if self.skips is not None:
            if self:
                self.skips.taken(index)
            else:
                self.skips = None
        return message

    # ---- what a receive may skip; `turn` is the process's count of reductions

    def made(self, ref: Ref, turn: int) -> None:
        """Its process has made a reference, which no message here can hold."""
        _remember(self._valid(turn).after, ref, len(self))

    def _valid(self, turn: int) -> _Skips:
        skips = self.skips
        if skips is None or skips.turn != turn:
            skips = self.skips = _Skips(turn)
        return skips

    def first_unknown(self, wanted: Pattern | None, turn: int) -> int:
        """How many messages need no look: they have been refused already.

        By a match of this pattern, or by one that differs by a newer reference only.

        That is sound: neither reference can be in a message that is older than both, and a reference is told from another
        by identity alone.
        """
        skips = self.skips
        if skips is None:
            return 0
        if skips.turn != turn - 1:
            self.skips = None
            return 0
        skips.turn = turn
        if wanted is None or not skips.refused:
            return 0
        key, refs = wanted
        known = skips.refused.get(key, 0)
        for ref in refs:
            known = min(known, skips.after.get(ref, 0))
        return known

    def refused(self, wanted: Pattern, count: int, turn: int) -> None:
        """A match of this pattern has looked at so many messages from the first on, and wants none of them."""
        skips = self._valid(turn)
        key, refs = wanted
        for ref in refs:
            count = min(count, skips.after.get(ref, 0))
        _remember(skips.refused, key, count)
