"""The fixture `play`: runs an async test body as a process, on the asyncio engine and under seeds of the deterministic one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.testing import simulation as testing

PATIENCE_MS = 240_000  # for a body on the asyncio engine; only a failure takes all of it


class Patient(AsyncioEngine):
    """Its timers come when nothing else can run, as they do on a machine that is idle.

    One that the kernel stops in the middle of what a test waits for a few milliseconds for must not hand the test half of it.
    """

    def _fire(self) -> None:
        if self.queue or self._unwinding:
            self.loop.call_soon(self._fire)
        else:
            super()._fire()


@pytest.fixture(params=["asyncio", "seed 1", "seed 2", "seed 3"])
def play(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`play(body, *args)` runs `body(*args)` as a process that traps exits, and returns its result."""
    if request.param == "asyncio":
        monkeypatch.setattr(testing, "AsyncioEngine", Patient)
        return partial(testing.play_real, timeout=PATIENCE_MS)
    seed = int(request.param.split()[1])
    return lambda body, *args: testing.play(body, *args, seed=seed)
