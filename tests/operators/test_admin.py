"""Operators' endpoints: the exact shapes, who may, what is audited, and what each action does to the living tree."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.server import Server, User, wait_until

ACTIONS = ("kill", "restart", "suspend", "resume", "trace")


def find(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """The node of this name."""
    return next(node for node in walk(tree) if node["name"] == name)


def walk(node: dict[str, Any]) -> Any:
    yield node
    for child in node["children"]:
        yield from walk(child)


def tree(admin: User) -> dict[str, Any]:
    return admin.client.get("/admin/tree").raise_for_status().json()


def told_of(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the reports say of processes; that one held the loop for long says something of a busy machine."""
    return [report for report in reports if report["kind"] != "long_schedule"]


def healthy(admin: User) -> bool:
    try:
        return admin.client.get("/api/v1/health/ready").status_code == 200 and all(
            node["status"] == "running" for node in walk(tree(admin))
        )
    except httpx.HTTPError:
        return False


def test_the_tree_has_the_agreed_shape(admin: User) -> None:
    root = tree(admin)
    assert root["name"] == "root" and root["strategy"] == "rest_for_one"
    for node in walk(root):
        assert {"name", "pid", "type", "module", "status", "restart", "restarts", "children"} <= node.keys()
        assert node["type"] in ("supervisor", "worker") and ("strategy" in node) == (
            node["type"] == "supervisor"
        )
        assert node["pid"].count(".") == 2 and "<" not in node["pid"]
    assert admin.client.get("/admin/tree", params={"root": "storage"}).json()["name"] == "storage"
    assert admin.client.get("/admin/tree", params={"root": "nobody"}).status_code == 404


def test_the_process_table_pages_and_sorts(admin: User) -> None:
    seen: list[str] = []
    query: dict[str, Any] = {"sort": "name", "limit": 5}
    while True:
        page = admin.client.get("/admin/processes", params=query).raise_for_status().json()
        for row in page["processes"]:
            assert set(row) == {
                "pid", "name", "module", "status", "message_queue_len", "reductions", "memory", "links", "restarts",
            }  # fmt: skip
        seen += [row["pid"] for row in page["processes"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert len(seen) == len(set(seen)) >= 12
    wrong = admin.client.get("/admin/processes", params={"sort": "colour"})
    assert wrong.status_code == 422 and "sort" in wrong.json()["error"]["fields"]
    assert admin.client.get("/admin/processes", params={"sort": "pid", "cursor": "x"}).status_code == 422
    other_order = admin.client.get("/admin/processes", params={"sort": "pid", "cursor": "1:x"})
    assert len(other_order.json()["processes"]) > 5  # it begins at the top


def test_one_process_by_pid_and_by_name(admin: User) -> None:
    by_name = admin.client.get("/admin/processes/repo").json()["process"]
    by_pid = admin.client.get(f"/admin/processes/{by_name['pid']}").json()["process"]
    assert by_pid["name"] == "repo" and by_pid["supervisor"]["name"] == "storage"
    assert by_pid["ancestors"] == ["storage", "root"]
    for pid in ("0.999999.0", "nobody", "0.x.0", "0.99999999999999999999999.0"):
        assert admin.client.get(f"/admin/processes/{pid}").status_code == 404


def test_no_secret_of_the_server_is_shown(server: Server, admin: User) -> None:
    password = server.database.partition("://")[2].partition("@")[0].partition(":")[2]
    shown = ""
    for row in admin.client.get("/admin/processes", params={"limit": 500}).json()["processes"]:
        shown += admin.client.get(f"/admin/processes/{row['pid']}").text
        shown += admin.client.get(f"/admin/processes/{row['pid']}/state").text
    assert admin.token not in shown and "a test key that is long enough" not in shown
    assert not password or password not in shown


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_needs_an_admin_and_a_living_process(
    server: Server, admin: User, user: User, action: str
) -> None:
    path = f"/admin/processes/repo/{action}"
    with server.client() as anybody:
        assert anybody.post(path).status_code == 401
    forbidden = user.client.post(path)
    assert forbidden.status_code == 403 and forbidden.json()["error"]["code"] == "forbidden"
    assert admin.client.post(f"/admin/processes/0.999999.0/{action}").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["tree", "processes", "processes/repo", "processes/repo/state", "reports", "stats", "audit", "log-level"],
)
def test_looking_needs_an_admin_too(server: Server, user: User, path: str) -> None:
    assert user.client.get(f"/admin/{path}").status_code == 403
    with server.client() as anybody:
        assert anybody.get(f"/admin/{path}").status_code == 401


def test_kill_is_answered_by_the_supervisor_and_audited(server: Server, admin: User) -> None:
    before = find(tree(admin), "db_listener")
    answer = (
        admin.client.post(f"/admin/processes/{before['pid']}/kill", headers={"x-request-id": "kill-1"})
        .raise_for_status()
        .json()
    )
    assert answer["result"] == "killed" and answer["new_pid"] not in (None, before["pid"])
    after = find(tree(admin), "db_listener")
    assert after["restarts"] == before["restarts"] + 1 and after["pid"] == answer["new_pid"]
    assert admin.client.post(f"/admin/processes/{before['pid']}/kill").status_code == 404
    line = server.fetchrow("SELECT * FROM audit_log WHERE request_id = 'kill-1'")
    assert str(line["actor_id"]) == admin.id and line["action"] == "process.kill"
    assert line["subject"] == before["pid"] and line["remote_address"] == "127.0.0.1"
    shown = admin.client.get("/admin/audit").json()["audit"][0]
    assert shown["actor_email"] == admin.email and shown["details"] == {"name": "db_listener"}
    reports = told_of(admin.client.get("/admin/processes/db_listener").json()["process"]["reports"])
    assert {report["kind"] for report in reports} >= {"crash", "supervisor"}
    assert reports[0]["reason"] == "killed"


def test_restart_goes_by_the_supervisor(admin: User) -> None:
    before = tree(admin)
    answer = admin.client.post("/admin/processes/ledger_server/restart").raise_for_status().json()
    after = tree(admin)
    assert (
        answer["result"] == "restarted"
        and answer["restarts"] == find(before, "ledger_server")["restarts"] + 1
    )
    assert find(after, "ledger_server")["pid"] == answer["new_pid"]
    # It was asked for: the siblings behind it in a rest_for_one go on.
    assert find(after, "db_writer")["pid"] == find(before, "db_writer")["pid"]
    assert admin.client.post("/admin/processes/root/restart").status_code == 409


def test_the_http_server_itself_is_restarted_behind_the_answer(admin: User) -> None:
    answer = admin.client.post("/admin/processes/endpoint/restart").raise_for_status().json()
    assert answer["result"] == "restarting"

    def came_back() -> bool:  # it answers on for a moment before it goes, and closes what is open
        try:
            return healthy(admin) and find(tree(admin), "endpoint")["restarts"] >= 1
        except httpx.TransportError:
            return False

    wait_until(came_back)


@pytest.mark.parametrize(("name", "check"), [("db_writer", "writer"), ("ledger_server", "ledger")])
def test_who_waits_for_a_suspended_process_is_not_ready(admin: User, name: str, check: str) -> None:
    wait_until(lambda: healthy(admin))
    client = admin.client
    try:
        assert client.post(f"/admin/processes/{name}/suspend").json()["result"] == "suspended"
        answer = client.get("/api/v1/health/ready")
        assert answer.status_code == 503
        assert answer.json()["checks"][check] == {"status": "down", "reason": "suspended by an operator"}
    finally:
        client.post(f"/admin/processes/{name}/resume")
    wait_until(lambda: healthy(admin))


def test_a_suspended_process_waits_and_goes_on(admin: User) -> None:
    client = admin.client
    assert client.post("/admin/processes/db_listener/suspend").json()["result"] == "suspended"
    try:
        assert find(tree(admin), "db_listener")["status"] == "suspended"
        rows = client.get("/admin/processes", params={"status": "suspended"}).json()["processes"]
        assert [row["name"] for row in rows] == ["db_listener"]
    finally:
        assert client.post("/admin/processes/db_listener/resume").json()["result"] == "resumed"
    assert find(tree(admin), "db_listener")["status"] == "running"
    assert client.post("/admin/processes/storage/suspend").status_code == 409


def test_trace_shows_the_next_messages(admin: User) -> None:
    answer = admin.client.post("/admin/processes/repo/trace", json={"messages": 1, "timeout_ms": 5000}).json()
    assert [event["kind"] for event in answer["events"]] == ["in"] and "Ping" in answer["events"][0][
        "message"
    ]
    short = admin.client.post("/admin/processes/pubsub/trace", json={"messages": 5, "timeout_ms": 50}).json()
    assert short["events"] == []
    for body in ({"messages": 0}, {"timeout_ms": "x"}):
        assert admin.client.post("/admin/processes/repo/trace", json=body).status_code == 422
    assert admin.client.post("/admin/processes/repo/trace", content=b"{").status_code == 400


def test_state_is_read_and_replaced(server: Server, admin: User) -> None:
    path = "/admin/processes/observer/state"
    assert admin.client.get(path).json()["state"]["missed"] == 0
    done = admin.client.put(path, json={"set": {"missed": 3}})
    assert done.status_code == 200 and done.json()["state"]["missed"] == 3
    admin.client.put(path, json={"set": {"missed": 0}}).raise_for_status()
    for wrong in ({"nothing": 1}, {"missed": "text"}, {"instruments": {}}, {"_myRef": None}):
        refused = admin.client.put(path, json={"set": wrong})
        assert refused.status_code == 422 and set(refused.json()["error"]["fields"]) == set(wrong)
    assert server.fetchval("SELECT count(*) FROM audit_log WHERE action = 'process.replace_state'") >= 2


def test_a_log_level_is_changed_and_shown(admin: User) -> None:
    assert admin.client.get("/admin/log-level").json()["level"] == "info"
    done = admin.client.put("/admin/log-level", json={"level": "debug", "logger": "bitnexus.test"})
    assert done.status_code == 200
    assert admin.client.get("/admin/log-level").json()["loggers"]["bitnexus.test"] == "debug"
    assert admin.client.put("/admin/log-level", json={"level": "loud"}).status_code == 422


def test_figures_come_every_second(admin: User) -> None:
    samples = wait_until(lambda: admin.client.get("/admin/stats").json()["samples"][-2:])
    newest = samples[-1]
    assert newest["processes"] > 10 and newest["memory"] > 10_000_000 and newest["database"] == "up"
    assert {
        "requests",
        "errors",
        "p50",
        "p95",
        "p99",
        "lag_ms",
        "sockets",
        "mailbox",
        "pool_used",
        "batch_rows",
    } <= newest.keys()


def test_drain_sends_sockets_away_and_serves_on(admin: User) -> None:
    assert admin.client.post("/admin/drain", json={"per_second": 10_000}).json()["result"] == "draining"
    assert healthy(admin)


def test_actions_work_and_are_audited_while_the_database_is_away(server: Server, admin: User) -> None:
    # The writer's connections are cut again and again: an operator must be able to act just then.
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    answer = admin.client.post(
        "/admin/processes/pubsub/trace", json={"timeout_ms": 1}, headers={"x-request-id": "cut-1"}
    )
    assert answer.status_code == 200
    wait_until(lambda: healthy(admin))
    admin.client.post("/admin/processes/pubsub/trace", json={"timeout_ms": 1}).raise_for_status()
    assert (
        wait_until(lambda: server.fetchval("SELECT count(*) FROM audit_log WHERE request_id = 'cut-1'")) == 1
    )


def test_changes_of_the_tree_are_told_on_the_channel(server: Server, admin: User) -> None:
    from websockets.asyncio.client import connect

    async def watch() -> list[list[Any]]:
        import json

        url = f"{server.url.replace('http', 'ws')}/socket/websocket?vsn=2.0.0&token={admin.token}"
        async with connect(url) as socket:
            await socket.send(json.dumps(["1", "1", "admin:observer", "phx_join", {}]))
            assert json.loads(await socket.recv())[4]["status"] == "ok"
            await asyncio.to_thread(admin.client.post, "/admin/processes/db_listener/kill")
            heard: list[list[Any]] = []
            async with asyncio.timeout(60):
                while {"tree", "stats", "crash", "supervisor"} - {
                    message[4]["kind"] if message[3] == "report" else message[3] for message in heard
                }:
                    heard.append(json.loads(await socket.recv()))
            return heard

    heard = asyncio.run(watch())
    trees = [message[4] for message in heard if message[3] == "tree"]
    reports = told_of([message[4] for message in heard if message[3] == "report"])
    assert find(trees[-1], "db_listener")["restarts"] >= 1
    assert {report["kind"] for report in reports} == {"crash", "supervisor"}
