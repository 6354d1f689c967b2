"""`bitnexus observer` and the operators' commands, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable, Static, Tree

from actors.settings import load
from api.cli.observer_tui import ObserverApp
from api.cli.operator_client import connect, tree_lines
from tests.operators.test_cli import bitnexus, one_line
from tests.support.server import PASSWORD, PATIENCE, SECRET, Server, User, start


@pytest.fixture(scope="module")
def local(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server of this machine, as the command line finds it: by its port, key and database."""
    server = start(module_database, DATA_DIR=str(tmp_path_factory.mktemp("data")))
    yield (
        server,
        {"PORT": server.url.rsplit(":", 1)[1], "DATABASE_URL": module_database, "SECRET_KEY_BASE": SECRET},
    )
    server.stop()


def test_tree_prints_the_living_tree(local: Any) -> None:
    _, env = local
    done = bitnexus("tree", **env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("● root  <0.") and "rest_for_one" in lines[0]
    assert any(line.startswith("│  ├─ ● db_writer") for line in lines)
    assert json.loads(bitnexus("tree", "storage", "--json", **env).stdout)["name"] == "storage"


def test_actions_say_what_they_did_and_stand_in_the_audit_log(local: Any) -> None:
    server, env = local
    assert "killed, now <0." in bitnexus("kill", "db_listener", **env).stdout
    restarted = bitnexus("restart", "ledger_server", **env)
    assert (
        restarted.stdout.startswith("ledger_server: restarted, now <0.") and "1 restart" in restarted.stdout
    )
    assert "1 message traced" in bitnexus("trace", "repo", "-n", "1", **env).stdout
    assert "suspended" in bitnexus("suspend", "db_listener", **env).stdout
    assert "resumed" in bitnexus("resume", "db_listener", **env).stdout
    who = server.fetchval(
        "SELECT string_agg(DISTINCT u.email, ',') FROM audit_log a JOIN users u ON u.id = a.actor_id"
    )
    assert who == "operator@localhost"


def test_ps_sorts_and_filters(local: Any) -> None:
    _, env = local
    done = bitnexus("ps", "--sort", "name", "--name", "ledger", **env)
    assert done.stdout.splitlines()[0].split()[:2] == ["PID", "NAME"]
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["ledger_server"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("kill", "nobody"), "There is no such process"),
        (("tree", "--url", "http://127.0.0.1:1"), "no server answers"),
    ],
)
def test_what_fails_is_one_line(local: Any, arguments: tuple[str, ...], said: str) -> None:
    assert said in one_line(bitnexus(*arguments, **local[1]))


def test_elsewhere_an_admin_signs_in(local: Any) -> None:
    server: Server = local[0]
    admin, user = server.user("admin"), server.user()
    here = ("--url", server.url, "--password", PASSWORD)
    assert bitnexus("tree", *here, "--email", admin.email).stdout.startswith("● root")
    assert "is not an admin" in one_line(bitnexus("tree", *here, "--email", user.email))
    assert "wrong" in one_line(
        bitnexus("tree", "--url", server.url, "--email", admin.email, "--password", "no")
    )
    assert "--url needs --email" in one_line(bitnexus("tree", "--url", server.url))


def test_many_children_are_summed_up() -> None:
    def worker(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "pid": "0.2.0",
            "type": "worker",
            "module": "m:W",
            "status": "running",
            "restarts": 0,
            "children": [],
        }

    node = {
        **worker("channels"), "type": "supervisor", "dynamic": True, "children_count": 10_000,
        "children": [worker("a"), worker("b")],
    }  # fmt: skip
    assert tree_lines(node)[1:] == ["├─ ● a  <0.2.0>  W", "├─ ● b  <0.2.0>  W", "└─ … 9998 more"]


def test_the_terminal_observer_shows_and_acts(local: Any, tmp_path: Path) -> None:
    server: Server = local[0]
    admin: User = server.user("admin")
    options = Namespace(url=server.url, email=admin.email, password=PASSWORD)
    shots = Path(os.environ.get("SCREENSHOTS") or tmp_path)

    async def use() -> None:
        async with connect(load({}), options) as client:
            app = ObserverApp(client)
            async with app.run_test(size=(150, 44)) as pilot:

                async def until(what: Any) -> Any:
                    end = time.monotonic() + PATIENCE
                    while not (found := what()):
                        assert time.monotonic() < end, f"did not come: {app.sub_title}"
                        await pilot.pause(0.05)
                    return found

                tree: Any = app.query_one("#processes-tree", Tree)
                nodes = lambda: {n.data["name"]: n for n in below(tree.root) if n.data}  # noqa: E731
                await until(lambda: "db_writer" in nodes())
                await pilot.pause()
                # New figures neither take the cursor away nor, late, back to where it was.
                tree.move_cursor(nodes()["ledger_server"])
                await app.read()
                assert tree.cursor_node is nodes()["ledger_server"]
                tree.move_cursor(nodes()["db_writer"])
                await pilot.pause()
                assert tree.cursor_node is nodes()["db_writer"]
                await pilot.press("enter")
                shown = app.query_one("#process", Static)
                await until(lambda: "DbWriter" in str(shown.render()))
                before = nodes()["db_writer"].data["restarts"]
                await pilot.press("k")
                assert nodes()["db_writer"].data["restarts"] == before, "once is not sure"
                await pilot.press("k")
                await until(lambda: nodes()["db_writer"].data["restarts"] == before + 1)
                app.save_screenshot(str(shots / "observer-tree.svg"))
                await pilot.press("3")
                reports = app.query_one("#reports", DataTable)
                await until(lambda: reports.row_count >= 2)
                await pilot.press("2")
                table = app.query_one("#table", DataTable)
                await until(lambda: table.row_count > 10)
                await pilot.press("slash", *"ledger", "enter")
                await until(lambda: table.row_count == 1)
                await pilot.press("r")
                await until(lambda: nodes()["ledger_server"].data["restarts"] >= 1)

    asyncio.run(use())
    assert (shots / "observer-tree.svg").stat().st_size > 10_000


def test_quitting_while_the_server_answers_is_quiet(local: Any) -> None:
    server: Server = local[0]
    options = Namespace(url=server.url, email=server.user("admin").email, password=PASSWORD)

    async def use() -> None:
        async with connect(load({}), options) as client:
            app, answer, asked, may_come = ObserverApp(client), client.call, asyncio.Event(), asyncio.Event()

            async def late(*args: Any, **query: Any) -> Any:
                found = await answer(*args, **query)
                asked.set()
                await may_come.wait()
                return found

            async with app.run_test():
                client.call = late  # type: ignore[method-assign]
                reading = asyncio.create_task(app.read())
                await asked.wait()
                app.exit()
            may_come.set()
            await reading

    asyncio.run(use())


def below(node: Any) -> list[Any]:
    """A node of the widget and all below it."""
    return [node, *(one for child in node.children for one in below(child))]
