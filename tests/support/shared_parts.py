"""Processes at rest share parts of their control blocks (`runtime.core.control_block`): after every test these must be as new."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runtime.core.control_block import ExecutionState, Relations
from runtime.core.engine import Engine
from runtime.core.modes import DEAD, IDLE, NEW


def _differences(part: Any, new: Any) -> list[str]:
    return [name for name in type(part).__slots__ if getattr(part, name) != getattr(new, name)]


def written_to(engine: Engine) -> list[str]:
    """What of the shared parts of an engine is not as it was made."""
    found = []
    for mode, execution in ((NEW, engine.fresh), (IDLE, engine.rest), (DEAD, engine.dead)):
        found += _differences(execution, ExecutionState(engine, mode, shared=True))
    for execution in engine.spare_executions:
        found += [
            name
            for name in _differences(execution, ExecutionState(engine))
            if name != "mailbox" or execution.mailbox or execution.mailbox.skips
        ]
    for page in engine.table._pages.values():
        if page.blank is not None:
            found += _differences(page.blank, Relations(page, shared=True))
    return found


@pytest.fixture(autouse=True)
def shared_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    engines: list[Engine] = []
    make = Engine.__init__

    def noted(engine: Engine) -> None:
        make(engine)
        engines.append(engine)

    monkeypatch.setattr(Engine, "__init__", noted)
    yield
    for engine in engines:
        assert written_to(engine) == []
