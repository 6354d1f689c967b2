"""Fixtures for all tests, and the rule that CI skips nothing."""

from __future__ import annotations

import os

import hypothesis

from tests.both_engines import play
from tests.database import database, embedded, empty_database
from tests.no_skips import (
    pytest_collectreport,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from tests.server import admin, module_database, other, server, server_environment, service, user

__all__ = [
    "admin",
    "database",
    "embedded",
    "empty_database",
    "module_database",
    "other",
    "play",
    "pytest_collectreport",
    "pytest_runtest_logreport",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "server",
    "server_environment",
    "service",
    "user",
]

# CI repeats what it did before; `make fuzz` looks further and elsewhere each time.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=20_000)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
)
