"""A pytest plugin for Thespian's own test suite: its `simpleSystemBase` becomes a base on our engine.

Taking the place of simpleSystemBase, name included, makes the suite ask of ours exactly what it asks of that one.
"""

from __future__ import annotations

from typing import Any

from thespian.system import simpleSystemBase

from runtime.thespian.system_base import SystemBase


class SuiteBase(SystemBase):
    """Made by ActorSystem from the name "simpleSystemBase"; unlike an object of ours it is told the capabilities."""

    def __init__(self, system: Any, logDefs: Any = None) -> None:
        super().__init__(capabilities=system.capabilities)


simpleSystemBase.ActorSystemBase = SuiteBase
