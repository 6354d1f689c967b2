"""Process identifiers and references.

A `Pid` is Thespian's `ActorAddress`, made cheap: it is hashable, compares by identity and *is* the process's control
block (`runtime.core.process.Cell`), of which only the runtime makes use. It stays valid as a name for ever; once the process
is dead nothing else is left of it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar

from thespian.actors import ActorAddress

if TYPE_CHECKING:
    from runtime.core.process import Cell

_ref_ids = itertools.count(1)


def renumber_refs() -> None:
    """The next reference that is looked at is number 1 again: traces of two runs must not differ by earlier runs."""
    global _ref_ids
    _ref_ids = itertools.count(1)


class Pid(ActorAddress):
    """Erlang's pid. `id` is unique within its engine and never used again; `str(pid)` is `<0.ID.0>`."""

    __slots__ = ()

    PID_TEXT: ClassVar = "<0.%d.0>"

    @property
    def id(self) -> int:
        """Its number: the older of two processes has the smaller one."""
        relations = self.cell.relations
        page, place = relations.page, relations.place
        if isinstance(page, int):
            return page
        if place < 0:
            place = page.place_of(self.cell)
            if not relations.shared:
                relations.place = place
        return page.first + place

    @property
    def cell(self) -> Cell:
        """Its control block."""
        return self  # type: ignore[return-value]

    @property
    def is_connected(self) -> bool:
        """Whether its node is reached without a new connection."""
        return True

    # Thespian reads `_aaddr`; made on demand, so that an idle process does not carry a string.
    @property
    def _aaddr(self) -> str:
        return str(self)

    @property
    def addressDetails(self) -> str:
        return self._aaddr

    @property
    def actorAddressString(self) -> str:
        return self._aaddr

    def __str__(self) -> str:
        return self.PID_TEXT % self.id

    __repr__ = __str__
    # Thespian's troupes mark an address with `eqOverride`; two pids are the same process or they are not.
    __eq__ = object.__eq__  # pyright: ignore[reportAssignmentType]
    __ne__ = object.__ne__  # pyright: ignore[reportAssignmentType]
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __deepcopy__(self, memo: object) -> Pid:
        return self

    def __copy__(self) -> Pid:
        return self


class Ref:
    """Erlang's reference: unique, opaque. Monitors and timers are references with more inside."""

    __slots__ = ("__weakref__", "_number")
    is_external: ClassVar[bool] = False  # made on another node

    def __init__(self) -> None:
        self._number = 0

    def deliver(self, message: Any) -> bool:
        """A message sent to it: only aliases take some."""
        return False

    def __repr__(self) -> str:
        if not self._number:  # numbered when first looked at: most references never are
            self._number = next(_ref_ids)
        return f"#Ref<0.{self._number}>"
