"""The integration guide's TypeScript in headless Chromium, from another origin: tasks, users, the channel, a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import browser
from tests.support.ports import free_port
from tests.support.server import Server, User

SCRIPT = Path(browser.__file__).parent / "guide.mjs"
FRONTEND_PORT = str(free_port())

pytestmark = pytest.mark.skipif(browser.chromium() is None, reason=f"no Chromium: {browser.HOW_TO}")


@pytest.fixture(scope="module")
def server_environment() -> Mapping[str, str]:
    """The frontend's origin may call."""
    return {"CORS_ORIGINS": f"http://127.0.0.1:{FRONTEND_PORT}"}


@pytest.fixture(scope="module")
def task(user: User) -> dict[str, Any]:
    """A task of Ada's."""
    answer = user.client.post("/api/v1/tasks", json={"title": "Ship it", "team_member": "ada"})
    assert answer.status_code == 201, answer.text
    return answer.json()["task"]


@pytest.fixture(scope="module")
def told(server: Server, user: User, task: dict[str, Any]) -> dict[str, Any]:
    """What the page saw, by name."""
    seen = browser.run(SCRIPT, server.url, user.token, user.id, FRONTEND_PORT)
    return {each["event"]: each for each in seen}


def test_tasks_load(told: dict[str, Any], task: dict[str, Any]) -> None:
    assert [each["id"] for each in told["tasks"]["tasks"]] == [task["id"]]
    assert told["tasks"]["tasks"][0]["title"] == "Ship it"


def test_users_answer(told: dict[str, Any], user: User) -> None:
    assert [each["id"] for each in told["users"]["answer"]["users"]] == [user.id]


def test_the_channel_joins_and_new_transaction_calls_back(told: dict[str, Any]) -> None:
    answer, called = told["transaction"]["answer"], told["transaction"]["called"]
    assert called == [{**answer["transaction"], "ledger_seq": answer["ledger"]["seq"]}]
    assert called[0]["amount"] == "12.50"


def test_nothing_went_wrong_on_the_page(told: dict[str, Any]) -> None:
    assert told["done"]["problems"] == []
