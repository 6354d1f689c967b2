"""The observer sees the tree, the process table and one process, without sending a message."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import pytest

from runtime.observe import observer, process_info, supervision_tree, term
from runtime.observe.report_log import ReportLog
from runtime.otp import erlang, gen_server, supervisor
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.dynamic_supervisor import start_child as start_dynamic
from runtime.otp.gen_server import GenServer, NoReply, Reply
from runtime.otp.supervisor import ChildSpec, Supervisor
from runtime.testing.deterministic_engine import DeterministicEngine


@dataclass(frozen=True, slots=True)
class Boom:
    """Makes a worker crash."""

    password: str = "hunter2hunter2"


class Worker(GenServer):
    """Waits for ever when told to."""

    def init(self, label: str | None = None) -> None:
        self.count = 3
        self.api_token = "abc-secret"
        self.url = "postgresql://app:pa55word@localhost/db"
        if label is not None:
            self.label = label

    def handle_call(self, request: Any, from_: Any) -> Any:
        return NoReply() if request == "later" else Reply(self.count)

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Boom():
                raise RuntimeError("boom")
            case "hang":
                return erlang.sleep(60_000)
        return None


async def start(engine: DeterministicEngine, channels: int = 0) -> None:
    storage = ChildSpec(
        "storage",
        (
            lambda: Supervisor.start_link(
                [ChildSpec("ledger", (lambda: Worker.start_link(name="ledger"), ()))],
                strategy="one_for_all",
                name="storage",
            ),
            (),
        ),
        type="supervisor",
    )
    dynamic = ChildSpec(
        "channels", (lambda: DynamicSupervisor.start_link(name="channels"), ()), type="supervisor"
    )
    await Supervisor.start_link([storage, dynamic], strategy="rest_for_one", intensity=10, name="root")
    for number in range(channels):
        await start_dynamic(
            "channels", ChildSpec(None, (Worker.start_link, (f"topic:{number}",)), restart="temporary")
        )


@pytest.fixture
def engine() -> Any:
    engine = DeterministicEngine(seed=7)
    yield engine
    engine.close()


def run(engine: DeterministicEngine, channels: int = 0) -> None:
    async def root() -> None:
        await start(engine, channels)
        await erlang.receive()

    engine.spawn(root)
    engine.run()


def test_the_tree_has_supervisors_workers_and_restarts(engine: DeterministicEngine) -> None:
    run(engine)
    tree = supervision_tree.tree()
    assert tree is not None
    assert (tree["name"], tree["type"], tree["strategy"]) == ("root", "supervisor", "rest_for_one")
    storage, channels = tree["children"]
    assert (storage["name"], storage["strategy"], storage["restart"]) == (
        "storage",
        "one_for_all",
        "permanent",
    )
    ledger = storage["children"][0]
    assert ledger["name"] == "ledger" and ledger["type"] == "worker" and ledger["restarts"] == 0
    assert ledger["module"] == "test_observer:Worker" or ledger["module"].endswith("test_observer:Worker")
    assert channels["dynamic"] and channels["children"] == []

    before = ledger["pid"]
    gen_server.cast("ledger", Boom())
    engine.run()
    ledger = supervision_tree.tree()["children"][0]["children"][0]  # type: ignore[index]
    assert ledger["restarts"] == 1 and ledger["pid"] != before and ledger["status"] == "running"
    assert process_info.parse_pid(before) is None
    assert process_info.parse_pid("ledger") is process_info.parse_pid(ledger["pid"])
    assert supervision_tree.tree("nobody") is None


def test_a_stopped_child_stays_in_the_tree(engine: DeterministicEngine) -> None:
    run(engine)
    engine.complete(supervisor.terminate_child("storage", "ledger"))
    ledger = supervision_tree.tree("storage")["children"][0]  # type: ignore[index]
    assert (ledger["name"], ledger["status"], ledger["pid"]) == ("ledger", "stopped", None)


def test_children_of_a_dynamic_supervisor_come_in_pages(engine: DeterministicEngine) -> None:
    run(engine, channels=25)
    page = supervision_tree.tree("channels", limit=10)
    assert page is not None and page["children_count"] == 25 and len(page["children"]) == 10
    assert all(child["restart"] == "temporary" for child in page["children"])
    names = [child["name"] for child in page["children"]]
    # One that has been listed dies meanwhile: nothing is skipped, nothing comes twice.
    erlang.exit(process_info.parse_pid(page["children"][0]["pid"]), "shutdown")  # type: ignore[arg-type]
    engine.run()
    while page["next_cursor"] is not None:
        page = supervision_tree.tree("channels", limit=10, after=int(page["next_cursor"]))
        assert page is not None and len(page["children"]) <= 10
        names += [child["name"] for child in page["children"]]
    assert names == [f"topic:{number}" for number in range(25)]


def test_the_process_table_is_sorted_filtered_and_paged(engine: DeterministicEngine) -> None:
    run(engine, channels=12)
    for _ in range(5):
        gen_server.cast("ledger", "work")
    engine.run()
    rows, following = observer.processes("reductions", limit=3)
    assert [one["reductions"] for one in rows] == sorted((one["reductions"] for one in rows), reverse=True)
    assert following is not None
    seen = list(rows)
    while following is not None:
        rows, following = observer.processes("reductions", limit=3, cursor=following)
        seen += rows
    assert len({one["pid"] for one in seen}) == len(seen) == len(erlang.processes())

    found, _ = observer.processes("name", name="TOPIC:1", limit=50)
    assert [one["name"] for one in found] == ["topic:1", "topic:10", "topic:11"]
    assert observer.processes(module="observer:worker", limit=100)[0]
    with pytest.raises(ValueError, match="sort: expected one of"):
        observer.processes("colour")


def test_restarts_and_mailboxes_sort_too(engine: DeterministicEngine) -> None:
    run(engine)
    gen_server.cast("ledger", Boom())
    engine.run()
    assert observer.processes("restarts", limit=1)[0][0]["name"] == "ledger"
    gen_server.cast("ledger", "hang")
    for number in range(4):
        gen_server.cast("ledger", number)
    engine.run()
    first = observer.processes("message_queue_len", limit=1)[0][0]
    assert first["name"] == "ledger" and first["message_queue_len"] == 4 and first["status"] == "waiting"


def test_a_process_in_full_with_its_secrets_masked(engine: DeterministicEngine) -> None:
    run(engine)
    gen_server.cast("ledger", "hang")
    gen_server.cast("ledger", Boom())
    engine.run()
    engine.advance(1500)
    info = observer.process(process_info.parse_pid("ledger"))  # type: ignore[arg-type]
    assert info is not None
    assert info["state"]["count"] == 3
    assert info["state"]["api_token"] == term.MASK
    assert "pa55word" not in str(info) and "hunter2" not in str(info) and "abc-secret" not in str(info)
    assert info["current_message"] == "Cast('hang')" and 1400 < info["current_since_ms"] < 1600
    assert any("sleep" in line for line in info["current_stack"])
    assert info["supervisor"]["name"] == "storage" and info["links"][0]["name"] == "storage"
    assert info["ancestors"][0] == "storage" and info["restart"] == "permanent"
    assert len(info["mailbox"]) == 1


def test_a_suspended_process_shows_as_such(engine: DeterministicEngine) -> None:
    run(engine)
    pid = process_info.parse_pid("ledger")
    assert pid is not None
    pid.cell.own_execution().suspended = True
    assert supervision_tree.tree("storage")["children"][0]["status"] == "suspended"  # type: ignore[index]
    assert observer.processes(status_is="suspended")[0][0]["name"] == "ledger"


def test_reports_are_kept_and_found_by_process(engine: DeterministicEngine) -> None:
    log = ReportLog(size=10).attach()
    try:
        run(engine)
        dead = process_info.parse_pid("ledger")
        gen_server.cast("ledger", Boom())
        engine.run()
    finally:
        log.detach()
    kinds = [entry.report.kind for entry in log.last()]
    assert kinds.count("crash") == 1 and "supervisor" in kinds and "progress" not in kinds
    assert log.totals["progress"] >= 4
    crash = log.last(kind="crash")[0].as_dict()
    assert "RuntimeError: boom" in crash["reason"] and "hunter2" not in str(crash)
    assert "\n" not in log.last(kind="crash")[0].as_dict(full=False)["reason"]
    assert log.last(pid=process_info.pid_text(dead)), "the dead one is found by its pid"  # type: ignore[arg-type]
    assert log.last(name="ledger") and not log.last(name="channels")


def test_secrets_are_masked_in_text_and_structures() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    assert token not in term.mask(f"joined with {token}")
    assert "s3cr3t" not in term.mask("postgresql://bob:s3cr3t@db/x") and "@db/x" in term.mask(
        "postgresql://bob:s3cr3t@db/x"
    )
    assert "s3cr3t" not in term.mask("Login(email='a', password='s3cr3t')")
    assert "c0ffee42" not in term.mask("Authorization: Bearer c0ffee42")
    shown = term.show({"password": "x", "nested": [{"refresh_token": "y", "amount": "12.50"}], "api_key": ""})
    assert shown == {
        "password": term.MASK,
        "nested": [{"refresh_token": term.MASK, "amount": "12.50"}],
        "api_key": "",
    }


def test_what_other_libraries_hold_is_not_shown() -> None:
    class Connection:
        def __init__(self) -> None:
            self.params = ("app", "s3cr3t")

    class Params(NamedTuple):
        user: str
        password: str

    shown = str(term.show({"connection": Connection(), "params": [Params("app", "s3cr3t")]}))
    assert "s3cr3t" not in shown and "app" in shown and "Connection" in shown


def test_a_value_of_any_size_or_shape_is_shown_bounded() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(100):
        inner["x"] = {}
        inner = inner["x"]

    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

    import json

    for value in (
        loop,
        deep,
        list(range(10**6)),
        "x" * 10**6,
        {str(i): i for i in range(10**5)},
        Bad(),
        b"12" * 999,
        float("nan"),
    ):
        assert len(json.dumps(term.show(value), allow_nan=False)) < 20_000
    assert "repr raised RuntimeError" in term.text(Bad())


def test_ten_thousand_children_are_listed_quickly(engine: DeterministicEngine) -> None:
    run(engine, channels=10_000)
    times: list[float] = []
    for _ in range(5):  # the quickest counts: the others tell of the machine
        started = perf_counter()
        tree = supervision_tree.tree(limit=100)
        times.append(perf_counter() - started)
    assert tree is not None and tree["children"][1]["children_count"] == 10_000
    assert len(tree["children"][1]["children"]) == 100
    assert min(times) < 0.1


def test_looking_at_memory_takes_none(engine: DeterministicEngine) -> None:
    run(engine, channels=2_000)
    tracemalloc.start()
    try:
        rows, _ = observer.processes("memory", engine=engine)
        gc.collect()  # Python keeps up to 2,000 tuples for the next use, as many as others had taken before
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(row["memory"] > 100 for row in rows)
    assert left < 50 * 2_000  # for the rows; a dict for each process that was looked at would be twice that
