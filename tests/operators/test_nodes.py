"""Operators over nodes: two servers on one port; each is looked at and acted on through whichever of them answers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.app import ROUTES
from api.http.openapi import build
from tests.operators.test_admin import find
from tests.support.server import (
    PATIENCE,
    ROOT,
    SECRET,
    Server,
    User,
    environment,
    error_of,
    wait_until,
)
from tests.support.two_nodes import are_connected, readiness, two_nodes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def server(module_database: str, folder: Path) -> Iterator[Server]:
    """A parent with two servers, which are connected."""
    with two_nodes(module_database, folder) as running:
        yield running


@pytest.fixture(scope="module")
def names(server: Server, admin: User) -> tuple[str, str]:
    """The names of both nodes."""
    found = wait_until(lambda: [one["node"] for one in cluster(admin) if one["state"] == "up"])
    assert len(found) == 2
    return found[0], found[1]


def cluster(admin: User) -> list[dict[str, Any]]:
    return admin.client.get("/admin/nodes").raise_for_status().json()["nodes"]


def get(admin: User, path: str, node: str, **query: Any) -> dict[str, Any]:
    return admin.client.get(path, params={"node": node, **query}).raise_for_status().json()


def test_each_node_is_told_of_with_its_links(admin: User, names: tuple[str, str]) -> None:
    def described() -> list[dict[str, Any]] | None:
        found = [one["description"] for one in cluster(admin) if one["state"] == "up"]
        return found if len(found) == 2 and all(one["ready"] for one in found) else None

    descriptions = wait_until(described)
    assert len({one["os_pid"] for one in descriptions}) == 2
    assert all(one["nats"]["connected"] for one in descriptions)
    for one, other in zip(descriptions, reversed(names), strict=True):
        [link] = one["links"]
        assert link["node"] == other and link["round_trip_ms"] > 0
        assert min(link["frames_in"], link["frames_out"], link["bytes_in"], link["bytes_out"]) > 0
    assert get(admin, "/admin/node", names[1])["os_pid"] == descriptions[1]["os_pid"]


def test_a_process_is_acted_on_where_it_is_and_nowhere_else(admin: User, names: tuple[str, str]) -> None:
    here, there = names
    before = {node: find(get(admin, "/admin/tree", node), "db_activity") for node in names}
    done = admin.client.post("/admin/processes/db_activity/restart", params={"node": there}).json()
    assert done["result"] == "restarted" and done["restarts"] == before[there]["restarts"] + 1
    assert find(get(admin, "/admin/tree", here), "db_activity") == before[here]
    assert find(get(admin, "/admin/tree", there), "db_activity")["pid"] == done["new_pid"]
    [newest] = admin.client.get("/admin/audit", params={"limit": 1}).json()["audit"]
    assert newest["action"] == "process.restart" and newest["actor_email"] == admin.email
    assert newest["details"] == {"name": "db_activity", "node": there}


def test_the_checks_of_an_action_hold_on_another_node(
    server: Server, admin: User, user: User, names: tuple[str, str]
) -> None:
    for node in names:
        on = {"node": node}
        error_of(admin.client.post("/admin/processes/root/kill", params=on), 409)
        error_of(admin.client.post("/admin/processes/nobody/kill", params=on), 404)
        wrong = admin.client.put("/admin/processes/repo/state", params=on, json={"set": {"nothing": 1}})
        assert error_of(wrong, 422)["fields"] == {"nothing": "the process has no such attribute"}
        right = admin.client.put("/admin/processes/repo/state", params=on, json={"set": {"pool_size": 10}})
        assert right.status_code == 200 and right.json()["result"] == "replaced"
        error_of(user.client.get("/admin/tree", params=on), 403)
        error_of(admin.client.get("/admin/processes", params={**on, "sort": "colour"}), 422)
        error_of(server.client().get("/admin/tree", params=on), 401)
    assert "there are" in error_of(admin.client.get("/admin/tree", params={"node": "x@y"}), 404)["message"]


def test_what_else_is_about_one_node(admin: User, names: tuple[str, str]) -> None:
    for node in names:
        assert get(admin, "/admin/processes", node, name="repo")["processes"][0]["name"] == "repo"
        assert get(admin, "/admin/processes/repo", node)["process"]["name"] == "repo"
        assert get(admin, "/admin/stats", node, limit=1)["now"]["database"] == "up"
        assert "totals" in get(admin, "/admin/reports", node)
        drained = admin.client.post("/admin/drain", params={"node": node}, json={"per_second": 10})
        assert drained.json() == {"result": "draining", "sockets": 0}
    traced = admin.client.post(
        "/admin/processes/db_activity/trace", params={"node": names[1]}, json={"messages": 1}
    )
    assert [event["message"] for event in traced.json()["events"]] == ["ReadActivity()"]
    loud = admin.client.put(
        "/admin/log-level", params={"node": names[1]}, json={"level": "error", "logger": "bitnexus.told"}
    )
    assert loud.status_code == 200
    assert "bitnexus.told" in get(admin, "/admin/log-level", names[1])["loggers"]
    assert "bitnexus.told" not in get(admin, "/admin/log-level", names[0])["loggers"]


def test_metrics_are_those_of_all_nodes_or_of_one(server: Server, names: tuple[str, str]) -> None:
    def scraped(**query: str) -> dict[str, set[str]]:
        text = server.client().get("/metrics", params=query).raise_for_status().text
        families = list(text_string_to_metric_families(text))
        assert len({family.name for family in families}) == len(families)
        assert text.count("# TYPE bitnexus_sockets ") == 1
        return {family.name: {one.labels["node"] for one in family.samples} for family in families}

    everything = scraped()
    for name in ("bitnexus_processes", "bitnexus_node_up", "process_cpu_seconds", "python_gc_collections"):
        assert everything[name] == set(names)
    assert scraped(node=names[1])["bitnexus_processes"] == {names[1]}
    assert scraped(node="self")["bitnexus_processes"] <= set(names)
    assert server.client().get("/metrics", params={"node": "x@y"}).status_code == 404


def test_readiness_names_the_node_and_the_others(server: Server, names: tuple[str, str]) -> None:
    client = server.client()
    assert readiness(client, _="1")["node"] in names
    for node, other in (names, tuple(reversed(names))):
        found = readiness(client, node=node)
        assert found["node"] == node and found["nodes"] == [{"node": other, "status": "up"}]
    assert client.get("/api/v1/health/ready", params={"node": "x@y"}).status_code == 404


def bitnexus(server: Server, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    changes = {
        "DATABASE_URL": server.database,
        "DATA_DIR": str(folder),
        "SECRET_KEY_BASE": SECRET,
        "PORT": server.url.rpartition(":")[2],
    }
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments],
        cwd=ROOT,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_the_commands_show_all_nodes_and_act_on_the_named_one(
    server: Server, folder: Path, names: tuple[str, str]
) -> None:
    here, there = names
    told = bitnexus(server, folder, "nodes").stdout
    assert [line.split()[:3] for line in told.splitlines()[1:3]] == [[name, "up", "yes"] for name in names]
    assert f"{here}  {there}" in told and f"{there}  {here}" in told and " ms " in told
    trees = bitnexus(server, folder, "tree", "storage").stdout.splitlines()
    assert [line for line in trees if line.endswith(":")] == [f"{name}:" for name in names]
    assert len([line for line in trees if "db_writer" in line]) == 2
    one = bitnexus(server, folder, "tree", "storage", "--node", there, "--json").stdout
    assert json.loads(one)["name"] == "storage"
    both = json.loads(bitnexus(server, folder, "tree", "storage", "--json").stdout)
    assert [each["node"] for each in both] == list(names) and both[0]["tree"]["name"] == "storage"
    rows = json.loads(bitnexus(server, folder, "ps", "--name", "repo", "--json").stdout)
    assert sorted(row["node"] for row in rows) == list(names)
    refused = bitnexus(server, folder, "kill", "db_activity")
    assert refused.returncode == 1 and f"give one of them as --node: {here}, {there}" in refused.stderr
    killed = bitnexus(server, folder, "kill", "db_activity", "--node", there)
    assert killed.returncode == 0 and "db_activity: killed" in killed.stdout
    assert "ambiguous" in bitnexus(server, folder, "tree", "--node", "bitnexus").stderr
    assert "there is no such node" in bitnexus(server, folder, "tree", "--node", "other").stderr
    drained = bitnexus(server, folder, "drain", "--node", there)
    assert drained.stdout == "closing 0 sockets, 1000 a second\n"


def test_a_node_that_hangs_is_one_line_within_bounded_time(
    server: Server, admin: User, folder: Path, names: tuple[str, str]
) -> None:
    # One connection, which is kept: the server at its other end answers, whatever becomes of the other one.
    one = httpx.Limits(max_connections=1, keepalive_expiry=600)
    signed = {"authorization": f"Bearer {admin.token}"}
    with httpx.Client(
        base_url=server.url, headers=signed, limits=one, timeout=PATIENCE, trust_env=False
    ) as client:
        on_it = User(admin.id, admin.email, admin.token, admin.refresh_token, client)
        asked = readiness(client)["node"]
        victim = next(name for name in names if name != asked)
        process = psutil.Process(get(on_it, "/admin/node", victim)["os_pid"])
        process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            # After some seconds its silence costs it its connection: then it is lost.
            states = {one["node"]: one["state"] for one in cluster(on_it)}
            assert states.keys() == set(names) and states[asked] == "up"
            assert states[victim] in ("silent", "lost")
            for answer in (
                client.get("/admin/tree", params={"node": victim}),
                client.post("/admin/processes/repo/suspend", params={"node": victim}),
            ):
                error = error_of(answer, answer.status_code)
                assert (answer.status_code, error["code"]) in (
                    (504, "node_silent"),
                    (503, "node_lost"),
                    (404, "unknown_node"),
                )
                assert victim in error["message"]
            scrape = client.get("/metrics").text
            assert f'bitnexus_node_up{{node="{victim}"}} 0.0' in scrape
            assert f'bitnexus_node_up{{node="{asked}"}} 1.0' in scrape
            unready = client.get("/api/v1/health/ready", params={"node": victim})
            assert unready.status_code in (404, 503)
            assert time.monotonic() - began < PATIENCE
            told = bitnexus(server, folder, "ps", "--limit", "3")
            assert told.returncode == 0 and asked in told.stdout
            assert [line.split(":")[0] for line in told.stderr.splitlines()] == [victim]
        finally:
            process.send_signal(signal.SIGCONT)
    wait_until(lambda: are_connected(server))


def test_every_operators_endpoint_takes_a_node() -> None:
    paths = build([operation for routes in ROUTES for operation in routes.operations])["paths"]
    without = {
        path
        for path, methods in paths.items()
        if path.startswith("/admin/") or path in ("/metrics", "/api/v1/health/ready")
        for described in methods.values()
        if "node" not in {one["name"] for one in described.get("parameters", ())}
    }
    assert without == set()
