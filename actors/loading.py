"""Loading objects that supervisor.toml names as "module:attribute": workers get functions of a higher floor as arguments."""

from __future__ import annotations

import importlib
from typing import Any

from runtime import tree_config


def load(name: str) -> Any:
    """The object that "module:attribute" names. Raises TreeConfigError, one line."""
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise tree_config.TreeConfigError(f"supervisor.toml: {name}: {error}") from None
    if not hasattr(found, attribute):
        raise tree_config.TreeConfigError(f"supervisor.toml: {name}: the module has no {attribute!r}")
    return getattr(found, attribute)
