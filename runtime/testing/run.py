"""What `Simulation` and `Cluster` share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Run(ABC):
    """A reproducible run as a context manager: closed at its end; an error gets a note with the arguments that repeat it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
        if error is not None:
            error.add_note(f"{type(self).__name__}({self})")

    @abstractmethod
    def __str__(self) -> str:
        """The arguments that repeat the run."""

    @abstractmethod
    def close(self) -> None:
        """Ends all processes of the run."""
