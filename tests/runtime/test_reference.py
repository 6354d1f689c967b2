"""The generated reference names modules there are, and each says what it is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"


def test_the_reference_names_modules() -> None:
    names = re.findall(r"^::: (\S+)$", REFERENCE.read_text(), re.M)
    assert len(names) > 10
    for name in names:
        assert importlib.import_module(name).__doc__
