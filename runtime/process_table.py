"""The process table, as BEAM has one: a pid's number is its place here, so neither the pid nor the table has to store it.

Places are given out in order and never again; a page whose processes are all dead is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from runtime.control_block import Ties

if TYPE_CHECKING:
    from runtime.process import Cell

PAGE: Final = 64  # places: a process looks for its own among so many


class Page(list["Cell | None"]):
    """A run of places; None where the process is dead. `first` is the number of the first place."""

    __slots__ = ("alive", "blank", "first")

    def __init__(self, first: int) -> None:
        self.first = first
        self.alive = 0
        self.blank = Ties(self, shared=True)


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
        """How many places have been given out: all processes that have ever been, nearly."""
        return self._last.first + len(self._last) - 1

    def __iter__(self) -> Iterator[Cell]:
        """The living, oldest first. Whoever lets others run between two steps takes a list of it."""
        for page in self._pages.values():
            for cell in page:
                if cell is not None:
                    yield cell

    def _new_page(self, first: int) -> Page:
        page = self._pages[first // PAGE] = Page(first)
        return page

    def _turn_over(self) -> Page:
        full = self._last
        if not full.alive:
            del self._pages[full.first // PAGE]
        self._last = page = self._new_page(full.first + PAGE)
        return page

    def add(self, cell: Cell) -> Page:
        """Gives a process its place, on the page returned."""
        page = self._last
        if len(page) == PAGE:
            page = self._turn_over()
        page.append(cell)
        page.alive += 1
        self._count += 1
        return page

    def reserve(self) -> int:
        """A number that no process has or will have."""
        page = self._last
        if len(page) == PAGE:
            page = self._turn_over()
        page.append(None)
        return page.first + len(page) - 1

    def remove(self, cell: Cell) -> None:
        """The process is dead; its number stays its own."""
        ties = cell.own_ties()
        page = ties.page
        assert isinstance(page, Page)
        place = ties.place if ties.place >= 0 else page.index(cell)
        page[place] = None
        ties.page = page.first + place
        self._count -= 1
        page.alive -= 1
        if not page.alive and page is not self._last:
            del self._pages[page.first // PAGE]

    def get(self, number: int) -> Cell | None:
        """The living process with this number."""
        page = self._pages.get((number - 1) // PAGE)
        index = (number - 1) % PAGE
        return page[index] if page is not None and index < len(page) else None
