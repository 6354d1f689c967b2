"""Restart strategies: which children of a supervisor are stopped and started again when one of them has ended.

simple_one_for_one is none of them: its children are copies of one template, and each stands for itself (`Supervisor.dynamic`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import dropwhile
from typing import Final, Protocol

from runtime.otp.child_spec import Child


class Strategy(Protocol):
    """A rule of `supervisor`."""

    def together(self, children: Collection[Child], ended: Child) -> Collection[Child]:
        """Those that are stopped, last first, and started again, in the order of `children`, which is the order of start.

        Empty: the one that ended is started again and nobody else is touched.
        """
        ...


class OneForOne:
    """Each child stands for itself."""

    def together(self, children: Collection[Child], ended: Child) -> Collection[Child]:
        return ()


class OneForAll:
    """All children depend on each other."""

    def together(self, children: Collection[Child], ended: Child) -> Collection[Child]:
        return children


class RestForOne:
    """A child depends on those that were started before it."""

    def together(self, children: Collection[Child], ended: Child) -> Collection[Child]:
        return list(dropwhile(lambda child: child is not ended, children))


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "one_for_one": OneForOne(),
    "one_for_all": OneForAll(),
    "rest_for_one": RestForOne(),
}
