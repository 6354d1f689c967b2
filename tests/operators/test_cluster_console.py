"""The console of two nodes in headless Chromium: the picture of the cluster, and both nodes followed and acted on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import browser
from tests.operators.test_nodes import cluster
from tests.support.server import PASSWORD, Server, User
from tests.support.two_nodes import two_nodes

SCRIPT = Path(browser.__file__).parent / "cluster.mjs"

pytestmark = pytest.mark.skipif(browser.chromium() is None, reason=f"no Chromium: {browser.HOW_TO}")


@pytest.fixture(scope="module")
def server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A parent with two servers, which are connected."""
    with two_nodes(module_database, tmp_path_factory.mktemp("nodes")) as running:
        yield running


@pytest.fixture(scope="module")
def told(server: Server, admin: User, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the browser saw, in order."""
    shots = os.environ.get("SCREENSHOTS") or str(tmp_path_factory.mktemp("console"))
    return browser.run(SCRIPT, server.url, admin.email, PASSWORD, shots)


def of(told: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [each for each in told if each["event"] == event]


def test_the_picture_has_both_nodes_and_their_link(told: list[dict[str, Any]], admin: User) -> None:
    [picture] = of(told, "picture")
    assert picture["nodes"] == [one["node"] for one in cluster(admin)]
    assert picture["note"] == "Cluster bitnexus: 2 of 2 nodes answer" and picture["links"] == 2


def test_each_node_is_followed_and_acted_on(told: list[dict[str, Any]], admin: User) -> None:
    restarted = of(told, "restarted")
    assert [one["node"] for one in restarted] == [one["node"] for one in cluster(admin)]
    assert all(one["chosen"] == one["node"] and one["more"] == 1 for one in restarted)
    done = admin.client.get("/admin/audit", params={"action": "process.restart"}).json()["audit"]
    assert {row["details"]["node"] for row in done} == {one["node"] for one in restarted}
    assert of(told, "problems") == [{"event": "problems", "problems": []}]


def test_the_view_is_accessible_and_fits_a_phone(told: list[dict[str, Any]]) -> None:
    assert [each for each in of(told, "violations") if each["found"]] == []
    [phone] = of(told, "phone")
    assert phone["overflow"] <= 0
