"""Headless Chromium for the tests: Debian's browser, driven by npm's playwright-core in scripts of this folder."""

from __future__ import annotations

import os
import shutil

HOW_TO = "apt-get install chromium (as root; any Chromium in the path, or CHROMIUM=/path/to/it, will do)"


def chromium() -> str | None:
    """The path of the browser; None when there is none."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
