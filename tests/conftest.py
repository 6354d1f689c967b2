"""Fixtures for all tests."""

from __future__ import annotations

from tests.both_engines import play
from tests.database import database, embedded, empty_database

__all__ = ["database", "embedded", "empty_database", "play"]
