"""Headless Chromium for the tests: Debian's browser, driven by npm's playwright-core in scripts of this folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tests import node

HOW_TO = "apt-get install chromium (as root; any Chromium in the path, or CHROMIUM=/path/to/it, will do)"


def chromium() -> str | None:
    """The path of the browser; None when there is none."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def run(script: Path, *args: str) -> list[Any]:
    """What a script of this folder prints, one value a line; AssertionError with its standard error when it fails."""
    return node.run(script, *args, timeout=280, CHROMIUM=chromium() or "")
