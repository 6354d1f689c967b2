"""The demo page in headless Chromium: sign in, record, both tabs see it, the network goes and comes, sign out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests import browser
from tests.support.server import PASSWORD, Server, User

SCRIPT = Path(browser.__file__).parent / "demo.mjs"

pytestmark = pytest.mark.skipif(browser.chromium() is None, reason=f"no Chromium: {browser.HOW_TO}")


@pytest.fixture(scope="module")
def told(server: Server, user: User) -> list[Any]:
    """What the browser saw, in order."""
    return browser.run(SCRIPT, server.url, user.email, PASSWORD, os.environ.get("SCREENSHOTS", ""))


def one(told: list[Any], event: str) -> dict[str, Any]:
    """The one object of this name."""
    [found] = [each for each in told if each["event"] == event]
    return found


def test_a_wrong_password_is_said(told: list[Any]) -> None:
    assert "password is wrong" in one(told, "refused")["text"]


def test_a_second_tab_is_signed_in_with_the_first(told: list[Any]) -> None:
    assert one(told, "signed in")["second"]


def test_a_bad_amount_is_said_beside_the_field(told: list[Any]) -> None:
    invalid = one(told, "invalid")
    assert "decimal" in invalid["text"] and invalid["focus"] == "amount"


def test_both_tabs_show_every_transaction_once_newest_first(told: list[Any]) -> None:
    lists = one(told, "lists")
    assert lists["one"] == lists["two"] == ["from the other tab", "coffee 3", "coffee 2", "coffee 1"]


def test_nothing_is_missed_while_the_network_is_away(told: list[Any]) -> None:
    assert one(told, "cut")["state"] != "Live"
    assert not [text for text in one(told, "while away")["far"] if text.startswith("while away")]
    back = one(told, "back")
    assert back["one"] == back["two"]
    assert back["two"][:3] == ["while away 3", "while away 2", "while away 1"] and len(back["two"]) == 7


def test_the_browser_being_offline_is_said(told: list[Any]) -> None:
    assert one(told, "offline")["state"] == "broken"


def test_a_transaction_is_verified_in_the_ledger(told: list[Any]) -> None:
    assert one(told, "verified")["text"].startswith("In the ledger")


def test_the_page_is_accessible(told: list[Any]) -> None:
    assert [each for each in told if each["event"] == "violations" and each["found"]] == []
    assert len([each for each in told if each["event"] == "violations"]) == 3


def test_the_page_fits_a_phone(told: list[Any]) -> None:
    assert one(told, "phone")["overflow"] <= 0


def test_signing_out_reaches_every_tab_and_nothing_broke(told: list[Any]) -> None:
    assert one(told, "signed out")["problems"] == []
