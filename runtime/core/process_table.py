"""The process table. The number of a pid is its index in the table, so neither has to store it.

Indices are assigned in order and never reused. A page that has become sparse is packed; a page without living processes is
dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from runtime.core.control_block import Relations

if TYPE_CHECKING:
    from runtime.core.process import Cell

PAGE: Final = 64  # places; a process searches its page for its own
SPARSE: Final = PAGE // 4


class Page(list["Cell | None"]):
    """Consecutive places, None for dead processes. `first` is the number of the first place."""

    __slots__ = ("alive", "blank", "first", "places")

    def __init__(self, first: int) -> None:
        self.first = first
        self.alive = 0
        self.blank: Relations | None = None
        # Once packed: the places of the living processes, which alone are left.
        self.places: bytes | None = None

    def shared(self) -> Relations:
        """The `Relations` shared by the processes of this page that have none of their own."""
        if self.blank is None:
            self.blank = Relations(self, shared=True)
        return self.blank

    def place_of(self, cell: Cell) -> int:
        """The place of a living process on this page."""
        index = self.index(cell)
        return index if self.places is None else self.places[index]

    def at(self, place: int) -> Cell | None:
        """The living process at a place."""
        if self.places is not None:
            index = self.places.find(place)
            return None if index < 0 else self[index]
        return self[place] if place < len(self) else None

    def clear_place(self, place: int) -> None:
        """Removes the process at a place."""
        self.alive -= 1
        if self.places is not None:
            index = self.places.find(place)
            del self[index]
            self.places = self.places[:index] + self.places[index + 1 :]
            return
        self[place] = None
        if self.alive == SPARSE and len(self) == PAGE:
            self.places = bytes(index for index, cell in enumerate(self) if cell is not None)
            self[:] = [cell for cell in self if cell is not None]


class ProcessTable:
    """All living processes of an engine, oldest first."""

    def __init__(self) -> None:
        self._pages: dict[int, Page] = {}
        self._last = self._new_page(1)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def given_out(self) -> int:
        """How many places have been assigned: about the number of processes ever spawned."""
        last = self._last
        return last.first - 1 + (len(last) if last.places is None else PAGE)

    def __iter__(self) -> Iterator[Cell]:
        """The living processes, oldest first. Take a list of it if processes may start or end between two steps."""
        for page in self._pages.values():
            for cell in page:
                if cell is not None:
                    yield cell

    def numbered(self) -> Iterator[tuple[int, Cell]]:
        """As `__iter__`, with numbers: cheaper than `pid.id`."""
        for page in self._pages.values():
            for place, cell in zip(page.places or range(len(page)), page, strict=True):
                if cell is not None:
                    yield page.first + place, cell

    def _new_page(self, first: int) -> Page:
        page = self._pages[first // PAGE] = Page(first)
        return page

    def _drop(self, page: Page) -> None:
        del self._pages[page.first // PAGE]
        page.blank = None  # breaks the reference cycle

    def _open_page(self) -> Page:
        """The page with the next free place."""
        page = self._last
        if len(page) == PAGE or page.places is not None:
            if not page.alive:
                self._drop(page)
            page = self._last = self._new_page(page.first + PAGE)
        return page

    def add(self, cell: Cell) -> Page:
        """Assigns the next place to a process. Returns its page."""
        page = self._last
        if len(page) >= PAGE or page.places is not None:
            page = self._open_page()
        page.append(cell)
        page.alive += 1
        self._count += 1
        return page

    def reserve(self) -> int:
        """Reserves a number that no process will get."""
        page = self._open_page()
        page.append(None)
        return page.first + len(page) - 1

    def remove(self, cell: Cell) -> None:
        """Removes a process that has ended; it keeps its number."""
        relations = cell.own_relations()
        page = relations.page
        assert isinstance(page, Page)
        place = relations.place if relations.place >= 0 else page.place_of(cell)
        relations.page = page.first + place
        page.clear_place(place)
        self._count -= 1
        if not page.alive and page is not self._last:
            self._drop(page)

    def get(self, number: int) -> Cell | None:
        """The living process with this number."""
        page = self._pages.get((number - 1) // PAGE)
        return None if page is None else page.at((number - 1) % PAGE)
