"""Process identifiers and references.

A `Pid` is a Thespian `ActorAddress` that is hashable and compares by identity. It *is* the process control block
(`runtime.core.process.Cell`), which only the runtime uses. A pid stays valid forever; nothing else is kept of a dead process.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar

from thespian.actors import ActorAddress

if TYPE_CHECKING:
    from runtime.core.process import Cell

_ref_ids = itertools.count(1)


def renumber_refs() -> None:
    """Starts the numbers of references at 1 again, so that traces do not depend on earlier runs."""
    global _ref_ids
    _ref_ids = itertools.count(1)


class Pid(ActorAddress):
    """Erlang's pid. `id` is unique within its engine and never reused; `str(pid)` is `<0.ID.0>`."""

    __slots__ = ()

    PID_TEXT: ClassVar = "<0.%d.0>"

    @property
    def id(self) -> int:
        """Its number; younger processes have larger ones."""
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
        """Its process control block."""
        return self  # type: ignore[return-value]

    @property
    def is_connected(self) -> bool:
        """True if its node is this one or connected."""
        return True

    # Thespian reads `_aaddr`; made on demand, so that an idle process does not store a string.
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
    # Thespian's troupes override the equality of addresses by `eqOverride`; pids compare by identity.
    __eq__ = object.__eq__  # pyright: ignore[reportAssignmentType]
    __ne__ = object.__ne__  # pyright: ignore[reportAssignmentType]
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __deepcopy__(self, memo: object) -> Pid:
        return self

    def __copy__(self) -> Pid:
        return self


class Ref:
    """Erlang's reference: unique and opaque. Monitors and timers are references."""

    __slots__ = ("__weakref__", "_number")
    is_external: ClassVar[bool] = False  # made on another node

    _number: int  # made on first use: most references are never shown

    def deliver(self, message: Any) -> bool:
        """A message sent to this reference. False: only an alias accepts messages."""
        return False

    def __repr__(self) -> str:
        if not hasattr(self, "_number"):
            self._number = next(_ref_ids)
        return f"#Ref<0.{self._number}>"
