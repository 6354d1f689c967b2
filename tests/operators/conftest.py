"""What the tests of operators' logs share."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import pytest

from actors.settings import load
from api.operators import logs


@pytest.fixture
def configured() -> Iterator[Callable[..., io.StringIO]]:
    """`configured(NAME=...)` gives the stream that log lines go to; afterwards logging is as it was."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level

    def configure(**env: str) -> io.StringIO:
        stream = io.StringIO()
        logs.configure(load(env), stream)
        return stream

    yield configure
    root.handlers[:] = before
    root.setLevel(level)
