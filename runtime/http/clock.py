"""How long the phase that a connection is in has taken. Only the server's sweep looks, so that nothing is paid where
nothing is slow.
"""

from __future__ import annotations


class Clock:
    """A phase begins when the sweep first sees it: what it may take is exceeded by one sweep at most. Times are seconds."""

    __slots__ = ("_name", "_number", "_since", "heard", "mark")

    def __init__(self) -> None:
        self._name = ""
        self._number = 0
        self._since = 0.0
        self.mark = 0  # what was counted when the phase began
        self.heard = 0.0  # when a peer that is waited for last sent something

    def spent(self, name: str, number: int, now: float, count: int = 0) -> float:
        """For how long the phase of this name and number has been seen."""
        if name != self._name or number != self._number:
            self._name, self._number, self._since, self.mark = name, number, now, count
            return 0.0
        return now - self._since
