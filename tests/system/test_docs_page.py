"""`/docs` in headless Chromium: readable for everybody, signs in, and makes calls as who has signed in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests import browser
from tests.support.server import PASSWORD, Server, User

SCRIPT = Path(browser.__file__).parent / "docs.mjs"

pytestmark = pytest.mark.skipif(browser.chromium() is None, reason=f"no Chromium: {browser.HOW_TO}")


@pytest.fixture(scope="module")
def told(server: Server, user: User) -> list[Any]:
    """What the browser saw, in order."""
    return browser.run(SCRIPT, server.url, user.email, PASSWORD, os.environ.get("SCREENSHOTS", ""))


def test_nobody_is_shut_out(told: list[Any]) -> None:
    found = {each["where"]: each["found"] for each in told if each["event"] == "violations"}
    assert found == {"light, 1280": [], "dark, 360": []}


def test_the_page_has_no_errors_and_fits(told: list[Any]) -> None:
    pages = [each for each in told if each["event"] == "page"]
    assert len(pages) == 2
    assert [(each["problems"], each["overflow"]) for each in pages] == [([], 0)] * 2


def test_calls_are_made_as_who_has_signed_in(told: list[Any], user: User) -> None:
    said = {each["event"]: each for each in told}
    assert user.email in said["signed in"]["text"]
    assert said["called"]["status"] == 200
    assert "Sign in" in said["signed out"]["text"]
