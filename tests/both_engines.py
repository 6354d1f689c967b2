"""The fixture `play`: runs an async test body as a process, on the asyncio engine and under seeds of the
deterministic one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runtime import testing


@pytest.fixture(params=["asyncio", "seed 1", "seed 2", "seed 3"])
def play(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`play(body, *args)` runs `body(*args)` as a process that traps exits, and returns its result."""
    if request.param == "asyncio":
        return testing.play_real
    seed = int(request.param.split()[1])
    return lambda body, *args: testing.play(body, *args, seed=seed)
