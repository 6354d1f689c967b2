"""A process's mailbox, with a selective receive that does not scan the same messages twice.

In Erlang a receive that matches a newly made reference skips all messages older than the reference (receive markers, OTP 24).
Here a long mailbox remembers up to where a `match` has refused the messages, and its length when a reference was made. Both
assume that `match` is a guard: a pure function of the message and of the values it closes over; and that messages do not change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType, NoneType
from typing import Any, Final

from runtime.core.pid import Pid, Ref

Match = Callable[[Any], bool]
Key = tuple[Any, ...]
Pattern = tuple[Key, list[Ref]]  # see `pattern`

LONG: Final = 64  # messages; scanning a shorter mailbox is cheaper than remembering
_REMEMBERED: Final = 8  # patterns of one mailbox
_MARKED: Final = 32  # references of one mailbox
_CONSTANT: Final = (str, int, float, bytes, NoneType, type, Pid)
_FIXED: Final = (*_CONSTANT, Ref, FunctionType, BuiltinFunctionType, ModuleType)


class _Skips:
    """What a long mailbox remembers: positions, which move when a message is removed."""

    __slots__ = ("after", "refused", "turn")

    def __init__(self, turn: int) -> None:
        self.turn = turn  # the process's reductions; void once messages were handled in another way
        self.refused: dict[Key, int] = {}  # how many messages, from the first, do not match
        self.after: dict[Ref, int] = {}  # how many messages are older than the reference

    def taken(self, index: int) -> None:
        """Adjusts the positions: the message at `index` was removed."""
        _shift(self.refused, index)
        _shift(self.after, index)


def _shift(positions: dict[Any, int], index: int) -> None:
    for key, position in positions.items():
        if position > index:
            positions[key] = position - 1


def _remember(positions: dict[Any, int], key: Any, position: int, most: int) -> None:
    positions.pop(key, None)
    if len(positions) >= most:
        del positions[next(iter(positions))]
    positions[key] = position


def _constant(value: Any) -> bool:
    return all(map(_constant, value)) if type(value) is tuple else isinstance(value, _CONSTANT)


def pattern(match: Match | None) -> Pattern | None:
    """The identity of a match: its code with the constants it closes over, and separately the references it closes over.

    None if its result may change, because it reads something mutable. Written with loops since it runs for each receive.
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
        except ValueError:  # an unbound variable
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

    def take(self, match: Match, start: int = 0) -> tuple[Any, ...]:
        """Removes the first message from `start` on that matches and returns it in a tuple; `()` if there is none."""
        index = self.find(match, start)
        return () if index < 0 else (self.remove_at(index),)

    def find(self, match: Match, start: int = 0) -> int:
        """The index of the first message from `start` on that matches; -1 if there is none."""
        for index, message in enumerate(self.scan(start), start):
            if match(message):
                return index
        return -1

    def scan(self, start: int = 0) -> Iterator[Any]:
        """The messages from index `start` on, oldest first. The mailbox must not change meanwhile."""
        if start and len(self) - start < LONG:  # a deque finds an index from its nearer end
            return iter([self[index] for index in range(start, len(self))])
        return islice(self, start, None) if start else iter(self)

    def remove_at(self, index: int) -> Any:
        """Removes and returns the message at an index."""
        message = self[index]
        del self[index]
        if self.skips is not None:
            if self:
                self.skips.taken(index)
            else:
                self.skips = None
        return message

    # ---- what a receive may skip; `turn` is the process's number of reductions

    def mark(self, ref: Ref, turn: int) -> None:
        """Sets a receive marker: the process has just made `ref`, so no message that is here contains it."""
        _remember(self._valid(turn).after, ref, len(self), _MARKED)

    def older_than(self, refs: Sequence[Ref], turn: int) -> int:
        """How many messages, from the first, are known to be older than all of these references."""
        skips = self.skips
        if skips is None or skips.turn != turn or not refs:
            return 0
        return min(skips.after.get(ref, 0) for ref in refs)

    def _valid(self, turn: int) -> _Skips:
        skips = self.skips
        if skips is None or skips.turn != turn:
            skips = self.skips = _Skips(turn)
        return skips

    def first_unknown(self, wanted: Pattern | None, turn: int, refs: Sequence[Ref] = ()) -> int:
        """How many messages a receive with this pattern, or of messages with one of `refs`, may skip.

        They were refused by this pattern, or by one that differs in its references only and are older than the references of
        both: a message cannot contain a younger reference, and references differ by identity alone.
        """
        skips = self.skips
        if skips is None:
            return 0
        if skips.turn != turn - 1:
            self.skips = None
            return 0
        skips.turn = turn
        older = self.older_than(refs, turn)
        if wanted is None or not skips.refused:
            return older
        key, own = wanted
        known = skips.refused.get(key, 0)
        for ref in own:
            known = min(known, skips.after.get(ref, 0))
        return max(known, older)

    def refused(self, wanted: Pattern, count: int, turn: int) -> None:
        """Remembers that a match of this pattern has refused the first `count` messages."""
        skips = self._valid(turn)
        key, refs = wanted
        for ref in refs:
            count = min(count, skips.after.get(ref, 0))
        _remember(skips.refused, key, count, _REMEMBERED)
