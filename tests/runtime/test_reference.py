"""The generated reference names every public module of the runtime, and each says what it is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
PUBLIC = ("runtime", "runtime.http", "runtime.nodes", "runtime.observe", "runtime.phoenix", "runtime.testing")


def named() -> set[str]:
    return set(re.findall(r"^::: (\S+)$", REFERENCE.read_text(), re.M))


def defining(package: str, name: str) -> str:
    """The module that a public name is, or is defined in."""
    found = getattr(importlib.import_module(package), name, None)
    if found is None:
        found = importlib.import_module(f"{package}.{name}")
    return found.__name__ if isinstance(found, ModuleType) else found.__module__


def test_each_module_in_the_reference_says_what_it_is() -> None:
    for name in named():
        assert importlib.import_module(name).__doc__, name


def test_every_public_name_is_in_the_reference() -> None:
    missing = {
        f"{package}.{name}": module
        for package in PUBLIC
        for name in importlib.import_module(package).__all__
        if name != "TIMEOUT"  # a value, documented at `erlang.receive`
        and (module := defining(package, name)) not in named()
    }
    assert missing == {}
