"""The console at /admin in headless Chromium, at desktop and phone width: the tree lives, actions work, nothing reloads."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests import browser
from tests.support.server import PASSWORD, PATIENCE, Server, User

SCRIPT = Path(browser.__file__).parent / "console.mjs"

pytestmark = pytest.mark.skipif(browser.chromium() is None, reason=f"no Chromium: {browser.HOW_TO}")


@contextmanager
def waiting_for_a_lock(database: str) -> Iterator[None]:
    """One program has locked a table, and another waits for it, as long as it is entered."""
    locked, over = threading.Event(), threading.Event()

    async def hold() -> None:
        holder = await asyncpg.connect(database, server_settings={"application_name": "somebody else"})
        waiting = await asyncpg.connect(database, server_settings={"application_name": "a report"})
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("LOCK TABLE emails")
        report = asyncio.create_task(waiting.fetchval("SELECT count(*) FROM emails"))
        locked.set()
        await asyncio.to_thread(over.wait)
        await transaction.rollback()
        await report
        await holder.close()
        await waiting.close()

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        assert locked.wait(PATIENCE)
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def told(server: Server, admin: User, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the browser saw, in order."""
    shots = os.environ.get("SCREENSHOTS") or str(tmp_path_factory.mktemp("console"))
    with waiting_for_a_lock(server.database):
        told = browser.run(SCRIPT, server.url, admin.email, PASSWORD, shots)
    told.append({"event": "shots", "files": sorted(path.name for path in Path(shots).glob("console-*.png"))})
    return told


def one(told: list[Any], event: str) -> dict[str, Any]:
    """The one object of this name."""
    [found] = [each for each in told if each["event"] == event]
    return found


def test_the_tree_shows_every_process_of_supervisor_toml(told: list[Any]) -> None:
    names = one(told, "tree")["names"]
    assert names[0] == "root"
    assert {"storage", "postgres", "repo", "ledger_server", "db_writer", "channels", "endpoint"} <= set(names)


def test_restart_by_keyboard_raises_the_count_without_a_reload(told: list[Any]) -> None:
    restarted = one(told, "restarted")
    assert restarted["after"] == restarted["before"] + 1
    assert one(told, "no reload") == {"event": "no reload", "loads": 0, "problems": []}


def test_what_is_restarted_glows_in_light_colours_on_a_light_page(told: list[Any]) -> None:
    colours = one(told, "glow")["colours"]
    assert len(set(colours)) > 1, "nothing glows"
    for colour in colours:
        assert min(map(int, re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour).groups())) > 150, colours  # type: ignore[union-attr]


def test_no_tile_is_cut(told: list[Any]) -> None:
    assert one(told, "tiles")["cut"] == []


def test_escape_gives_the_focus_back(told: list[Any]) -> None:
    assert one(told, "after escape") == {
        "event": "after escape",
        "tree": "db_writer",
        "table": "ledger_server",
    }


def test_a_crash_is_counted_logged_and_explained(told: list[Any]) -> None:
    crashed = one(told, "crashed")
    assert crashed["after"] == crashed["before"] + 1
    assert int(crashed["count"]) >= 2 and "killed" in crashed["pane"]
    assert "db_writer under storage" in one(told, "log")["text"]


def test_the_process_table_is_filtered_by_the_server(told: list[Any]) -> None:
    assert one(told, "filtered")["rows"] == ["ledger_server"]


def test_the_charts_are_painted(told: list[Any]) -> None:
    charts = one(told, "charts")
    assert charts["count"] == 9 and charts["painted"] and "MiB" in charts["memory"]


def test_a_server_that_is_alone_is_a_cluster_of_one(told: list[Any]) -> None:
    cluster = one(told, "cluster")
    assert len(cluster["nodes"]) == 1 and "single server" in cluster["note"]


def test_who_waits_for_a_lock_and_what_is_slow_are_shown(told: list[Any]) -> None:
    database = one(told, "database")
    [[seconds, who, statement, holder, its]] = database["waits"]
    assert (
        seconds[0].isdigit() and who.startswith("a report (session ") and "count(*) FROM emails" in statement
    )
    assert holder.startswith("somebody else (session ") and its == "LOCK TABLE emails"
    assert any("count(*) FROM emails" in statement for _, _, statement in database["slowest"])
    assert "The last write succeeded" in database["note"]


def test_the_audit_log_names_what_was_done(told: list[Any]) -> None:
    text = one(told, "audit")["text"]
    assert "process.restart" in text and "process.kill" in text and "127.0.0.1" in text


def test_the_page_works_on_a_phone(told: list[Any]) -> None:
    phone = one(told, "phone")
    assert max(phone["overflow"].values()) <= 0
    assert phone["restarted"] == 1 and phone["problems"] == []


def test_the_page_is_accessible(told: list[Any]) -> None:
    checks = [each for each in told if each["event"] == "violations"]
    assert len(checks) == 6 and [each for each in checks if each["found"]] == []


def test_screenshots_were_taken(told: list[Any]) -> None:
    files = one(told, "shots")["files"]
    assert {
        "console-tree.png",
        "console-crash.png",
        "console-processes.png",
        "console-phone-tree.png",
    } <= set(files)
