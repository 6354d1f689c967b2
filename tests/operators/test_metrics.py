"""/metrics: every line is read by prometheus-client's parser, labels are bounded, figures are those of what happened."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter as Tally
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors.instruments import METRICS
from api.operators.metrics import is_loopback
from runtime.core import telemetry
from runtime.observe.telemetry_metrics import (
    MAX_SERIES,
    OTHER,
    SECONDS,
    Counter,
    Distribution,
    LastValue,
    Store,
    Sum,
    percentile,
)
from tests.support.server import ROOT, Server, User, start, wait_until


def promtool(*arguments: str, read: str = "") -> None:
    """Prometheus's own check, on machines that have it; everywhere prometheus-client's parser has read it all."""
    if (command := shutil.which("promtool")) is not None:
        done = subprocess.run([command, *arguments], input=read, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def scrape(server: Server, **headers: str) -> dict[str, Any]:
    """All families by name."""
    with server.client() as client:
        answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    assert not [name for name, count in Tally(family.name for family in families).items() if count > 1]
    promtool("check", "metrics", read=answer.text)
    return {family.name: family for family in families}


def value(families: dict[str, Any], sample: str, **labels: str) -> float:
    """The sum of a sample's values under these labels."""
    return sum(
        one.value
        for family in families.values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    )


def test_what_happens_is_counted(server: Server, user: User, admin: User) -> None:
    before = scrape(server)
    for number in range(3):
        body = {"amount": f"{number + 1}.00", "currency": "EUR", "description": "counted"}
        assert user.client.post("/api/v1/transactions", json=body).status_code == 201
    assert user.client.get("/api/v1/transactions/nonsense").status_code == 404
    admin.client.post("/admin/processes/db_listener/kill").raise_for_status()
    after = scrape(server)

    def grown(sample: str, **labels: str) -> float:
        return value(after, sample, **labels) - value(before, sample, **labels)

    posts = {"method": "POST", "route": "/api/v1/transactions", "code": "201"}
    assert grown("bitnexus_http_request_duration_seconds_count", **posts) == 3
    assert grown("bitnexus_http_request_duration_seconds_count", code="404") == 1
    assert grown("bitnexus_transactions_recorded_total") == 3
    assert (
        grown("bitnexus_batch_rows_sum") == 3 and grown("bitnexus_batch_commit_duration_seconds_count") >= 1
    )
    assert grown("bitnexus_crashes_total", module="actors.storage.listener:DbListener") == 1
    assert grown("bitnexus_child_restarts_total", child="db_listener", supervisor="storage") == 1
    assert grown("bitnexus_supervisor_restarts", child="db_listener") == 1
    assert value(after, "bitnexus_ledger_head_seq") >= 3
    assert value(after, "bitnexus_database_up") == 1
    # The listener that was started anew has sent the writer to look for what it may have missed.
    assert wait_until(lambda: value(scrape(server), "bitnexus_mailbox_length", process="db_writer") == 0)
    assert wait_until(lambda: value(scrape(server), "bitnexus_event_loop_lag_seconds_count") > 3)


def test_counters_of_the_known_tree_begin_at_zero(server: Server) -> None:
    families = scrape(server)
    restarts = {
        (one.labels["supervisor"], one.labels["child"])
        for one in families["bitnexus_child_restarts"].samples
        if one.name.endswith("_total")
    }
    assert {("root", "storage"), ("storage", "db_writer"), ("channels", "channels")} <= restarts
    crashes = {one.labels["module"]: one.value for one in families["bitnexus_crashes"].samples}
    assert crashes["actors.ledger.writer:DbWriter"] == 0


def test_a_series_that_counts_is_not_begun_again() -> None:
    event = ("test", "begin")
    store = Store([Counter("count", event, "", None, ("kind",))]).attach()
    try:
        store.begin("count", ("a",))
        assert store.series["count"] == {("a",): 0}
        telemetry.execute(event, {}, {"kind": "a"})
        store.begin("count", ("a",))
        assert store.series["count"] == {("a",): 1}
        for number in range(MAX_SERIES * 2):
            store.begin("count", (str(number),))
        assert len(store.series["count"]) == MAX_SERIES
    finally:
        store.detach()


def test_histograms_are_cumulative_and_complete(server: Server) -> None:
    families = scrape(server)
    for family in families.values():
        if family.type != "histogram":
            continue
        series: dict[tuple[Any, ...], list[float]] = {}
        for one in family.samples:
            if one.name.endswith("_bucket"):
                rest = tuple(sorted((k, v) for k, v in one.labels.items() if k != "le"))
                series.setdefault(rest, []).append(one.value)
        for buckets in series.values():
            assert buckets == sorted(buckets)


def test_no_label_grows_with_users_or_requests(server: Server, user: User) -> None:
    for number in range(40):
        user.client.get(f"/api/v1/nowhere/{number}")
        user.client.get(f"/api/v1/transactions/00000000-0000-4000-8000-{number:012}")
    families = scrape(server)
    for family in families.values():
        for one in family.samples:
            assert user.id not in str(one.labels) and "000000000039" not in str(one.labels)
    routes = {one.labels["route"] for one in families["bitnexus_http_request_duration_seconds"].samples}
    assert "/api/v1/transactions/{id}" in routes and not any("nowhere" in route for route in routes)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("127.8.8.8", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("unknown", False),
    ],
)
def test_loopback_is_told_from_elsewhere(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_a_token_that_is_set_is_always_asked_for(module_database: str, tmp_path: Path) -> None:
    # A proxy on this machine need not say that it is one.
    server = start(module_database, DATA_DIR=str(tmp_path), METRICS_TOKEN="a metrics token")
    try:
        with server.client() as client:
            assert client.get("/metrics").status_code == 401
            away = {"x-forwarded-for": "198.51.100.7"}
            assert client.get("/metrics", headers=away).status_code == 401
            wrong = client.get("/metrics", headers={**away, "authorization": "Bearer wrong"})
            assert wrong.status_code == 401
            # RFC 9110 15.5.2: a 401 must have one.
            assert wrong.headers["www-authenticate"].startswith("Bearer")
        assert scrape(server, authorization="Bearer a metrics token")
        assert scrape(server, **away, authorization="Bearer a metrics token")
    finally:
        server.stop()


def test_without_a_token_metrics_are_for_this_machine(server: Server) -> None:
    with server.client() as client:
        assert client.get("/metrics").status_code == 200
        for name in ("x-forwarded-for", "x-real-ip", "forwarded", "via", "x-forwarded-proto"):
            assert client.get("/metrics", headers={name: "198.51.100.7"}).status_code == 401


def test_the_documents_list_every_metric_and_no_other(server: Server) -> None:
    listed = set(re.findall(r"`(bitnexus_[a-z_]+)`", (ROOT / "docs" / "observer.md").read_text()))
    exported = {name for name in scrape(server) if name.startswith("bitnexus_")}
    assert {name.removesuffix("_total") for name in listed} == exported


def test_a_store_keeps_what_its_definitions_say() -> None:
    event = ("test", "telemetry_metrics")
    store = Store(
        [
            Counter("count", event, "", None, ("kind",)),
            Counter("kept", event, "", keep=lambda metadata: metadata["kind"] == "a"),
            Sum("sum", event, "", "size"),
            LastValue("last", event, "", "size"),
            Distribution("spread", event, "", "size", buckets=(1, 10)),
        ]
    ).attach()
    try:
        for kind, size in (("a", 1), ("b", 5), ("a", 50)):
            telemetry.execute(event, {"size": size}, {"kind": kind})
        assert store.series["count"] == {("a",): 2, ("b",): 1}
        assert store.total("kept") == 2 and store.total("sum") == 56 and store.total("last") == 50
        assert store.histogram("spread") == [1, 1, 1] and store.total("spread") == 3
        for number in range(MAX_SERIES * 2):
            telemetry.execute(event, {"size": 1}, {"kind": str(number)})
        assert (
            len(store.series["count"]) == MAX_SERIES + 1 and store.series["count"][(OTHER,)] > MAX_SERIES - 10
        )
    finally:
        store.detach()
    telemetry.execute(event, {"size": 1}, {"kind": "a"})
    assert store.total("sum") == 56 + MAX_SERIES * 2


def test_percentiles_are_interpolated() -> None:
    assert percentile(SECONDS, [0] * (len(SECONDS) + 1), 0.5) is None
    assert percentile((1.0, 2.0), [10, 0, 0], 0.5) == pytest.approx(0.5)
    assert percentile((1.0, 2.0), [5, 5, 0], 0.75) == pytest.approx(1.5)
    assert percentile((1.0, 2.0), [0, 0, 3], 0.99) == 2.0


def test_dashboard_and_alerts_name_metrics_that_exist(server: Server) -> None:
    families = scrape(server)
    known = {one.name for family in families.values() for one in family.samples} | {
        f"{name}{suffix}"
        for metric in METRICS
        for name in (metric.name.removesuffix("_total"),)
        for suffix in ("", "_total", "_bucket", "_count", "_sum")
    }
    known |= {"bitnexus_breaker_state"}  # has a series for each service that is configured
    deploy = ROOT / "deploy"
    dashboard = json.loads((deploy / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    promtool("check", "rules", str(deploy / "alerts.yml"))
    alerts = (deploy / "alerts.yml").read_text()
    assert len(expressions) > 30 and alerts.count("- alert:") >= 10
    used = set(re.findall(r"\b(?:bitnexus|process)_[a-z_]+", " ".join([*expressions, alerts])))
    assert used - known == set()
    assert {metric.name for metric in METRICS} <= set(families) | {f"{name}_total" for name in families}


def test_what_an_alert_adds_or_divides_has_the_same_labels() -> None:
    """Vectors of other labels match nothing: their sum is empty, and the alert never fires."""
    alerts = (ROOT / "deploy" / "alerts.yml").read_text()
    for expression in re.findall(r"expr: (?:\|\n)?((?:.+\n)(?: {10,}\S.*\n)*)", alerts):
        parts = re.split(r"\s[+/]\s", expression.split(" > ")[0])
        assert len(parts) == 1 or all(part.strip().startswith("sum by (instance)") for part in parts), parts


def test_lanes_have_shed_nothing_at_the_start(server: Server) -> None:
    shed = scrape(server)["bitnexus_requests_shed"].samples
    assert {one.labels["lane"]: one.value for one in shed if one.name.endswith("_total")}.keys() == {
        "work",
        "write",
        "sign_in",
    }
