"""Moments at the ends of what PostgreSQL, its driver and Python can count."""

from __future__ import annotations

import time

import pytest

from actors.storage.change_events import Change
from tests.support.server import Server, User, error_of


@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00Z",  # -infinity to the driver
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59.999999Z",  # infinity to the driver
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_moments_without_a_place_are_refused_by_name(user: User, moment: str) -> None:
    error = error_of(user.client.post("/api/v1/tasks", json={"title": "t", "due_at": moment}), 422)
    assert error["fields"] == {"due_at": "expected a year from 2 to 9998"}


@pytest.mark.parametrize("moment", ["0002-01-01T00:00:00Z", "9998-12-31T23:59:59.999999Z"])
def test_the_first_and_the_last_moment(server: Server, user: User, moment: str) -> None:
    answer = user.client.post("/api/v1/tasks", json={"title": "t", "due_at": moment})
    assert answer.status_code == 201, answer.text
    task = answer.json()["task"]
    assert task["due_at"].endswith("Z")
    assert user.client.get(f"/api/v1/tasks/{task['id']}").json()["task"] == task


@pytest.mark.parametrize(
    "moment", ["infinity", "-infinity", "0044-03-15T00:00:00+00:00 BC", "10000-01-01T00:00:00+00:00"]
)
def test_the_log_of_changes_is_read_past_a_moment_that_only_postgresql_can_count(moment: str) -> None:
    assert Change("tasks", "UPDATE", {"due_at": moment}).payload() == {"due_at": moment}


def test_a_row_that_no_client_can_read_does_not_end_the_server(server: Server, user: User) -> None:
    server.execute("ALTER TABLE tasks DROP CONSTRAINT tasks_moments")  # as before migration 0007
    server.execute("INSERT INTO tasks (title, due_at) VALUES ('for ever', 'infinity')")
    time.sleep(1)
    server.execute("DELETE FROM tasks WHERE due_at = 'infinity'")
    assert user.client.post("/api/v1/tasks", json={"title": "t"}).status_code == 201
    assert not [line for line in server.lines if "CRASH REPORT" in line]
