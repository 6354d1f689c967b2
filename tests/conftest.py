"""Fixtures for all tests, and the rule that CI skips nothing."""

from __future__ import annotations

import os
from typing import Any

import hypothesis

from tests.support.both_engines import play
from tests.support.database import database, embedded, empty_database
from tests.support.no_skips import (
    pytest_collectreport,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from tests.support.server import admin, module_database, other, server, server_environment, service, user
from tests.support.shared_parts import shared_parts

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
    "shared_parts",
    "user",
]

# CI repeats what it did before; `make fuzz` looks further and elsewhere each time. How fast examples are made is a matter of
# the machine (on a fresh checkout the first one makes Unicode's tables, too), and no fault of what is tested.
_patient: dict[str, Any] = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("default", **_patient)
hypothesis.settings.register_profile("ci", derandomize=True, **_patient)
hypothesis.settings.register_profile("fuzz", max_examples=20_000, **_patient)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
)
