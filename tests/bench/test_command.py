"""The command line of the bench, and the commits that it runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import revision
from bench.__main__ import arguments, measure
from bench.benchmarks import BENCHMARKS, Benchmark
from bench.figures import Row
from bench.run import Run


def test_by_default_the_quick_benchmarks_run() -> None:
    options = arguments([])
    assert [benchmark.name for benchmark in options.benchmarks] == [
        q.name for q in BENCHMARKS if q.by_default
    ]
    assert options.rounds == 5
    assert len(arguments(["--only", "all"]).benchmarks) == len(BENCHMARKS)


def test_benchmarks_run_in_the_order_of_the_table() -> None:
    assert [benchmark.name for benchmark in arguments(["--only", "runtime,requests"]).benchmarks] == [
        "requests",
        "runtime",
    ]


@pytest.mark.parametrize("wrong", [["--only", "request"], ["--rounds", "0"], ["--rounds", "many"]])
def test_what_is_wrong_is_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(wrong)
    assert ended.value.code == 2
    assert wrong[-1] in capsys.readouterr().err or wrong[-1] == "0"


def test_every_benchmark_has_its_file() -> None:
    files = {path.stem for path in (revision.ROOT / "bench/benchmarks").glob("*.py")} - {"__init__"}
    assert {benchmark.name for benchmark in BENCHMARKS} == files


def test_a_benchmark_that_fails_is_reported_and_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rich.progress import Progress

    ran: list[str] = []

    def measure_one(self: Benchmark, run: Run) -> None:
        ran.append(self.name)
        run.step("at work")
        if self.name == "runtime":
            raise ZeroDivisionError("no rounds")

    monkeypatch.setattr(Benchmark, "measure", measure_one)
    run = Run([])
    with Progress(disable=True) as progress:
        measure(run, arguments(["--only", "runtime,requests,nodes"]).benchmarks, progress)
    assert ran == ["requests", "runtime", "nodes"]
    [reason] = run.broken
    assert reason.startswith("runtime: ZeroDivisionError('no rounds')")


def test_what_was_measured_before_an_interruption_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.progress import Progress

    ran: list[str] = []

    def measure_one(self: Benchmark, run: Run) -> None:
        ran.append(self.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(Benchmark, "measure", measure_one)
    run = Run([])
    with Progress(disable=True) as progress:
        measure(run, arguments(["--only", "requests,nodes"]).benchmarks, progress)
    assert ran == ["requests"]
    assert run.broken == ["requests: interrupted; the benchmarks after it were not run"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit that has bench/runtime_peers.py and no lock to install from."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "runtime_peers.py").touch()
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "one"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(revision, "ROOT", tmp_path)
    return tmp_path


def worktrees(repository: Path) -> int:
    listed = subprocess.run(
        ["git", "-C", str(repository), "worktree", "list"], capture_output=True, text=True, check=True
    )
    return len(listed.stdout.splitlines())


def test_an_earlier_commit_stands_in_a_worktree_of_its_own_and_leaves_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "_install", lambda tree, place: str(place / "bin" / "python"))
    with revision.earlier("HEAD") as earlier:
        assert earlier.root != repository
        assert earlier.has("bench.runtime_peers")
        assert not earlier.has("bench.node_peers")
        assert worktrees(repository) == 2
    assert worktrees(repository) == 1
    assert not earlier.root.exists()


def test_a_worktree_goes_when_its_environment_cannot_be_installed(repository: Path) -> None:
    with pytest.raises(revision.UnknownRevision, match="was not installed"), revision.earlier("HEAD"):
        pass
    assert worktrees(repository) == 1


def test_a_commit_that_is_not_there_is_one_line() -> None:
    told = "AGAINST=no-such-commit: there is no such commit"
    with pytest.raises(revision.UnknownRevision, match=told), revision.earlier("no-such-commit"):
        pass


def test_a_commits_programs_are_not_led_to_another_commits_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "DATABASE_URL"):
        monkeypatch.setenv(name, "elsewhere")
    environment = revision.Revision("before", "old", Path(), "python").environment(PORT="0")
    assert environment.keys() & {"PYTHONPATH", "VIRTUAL_ENV", "DATABASE_URL"} == set()
    assert environment["PORT"] == "0"


def test_rows_of_all_benchmarks_have_names_of_their_own() -> None:
    from bench.benchmarks import churn, crowd, ledger, nodes, observing, overload, requests, runtime, sockets

    rows: list[Row] = [
        *requests.ROWS, *sockets.ROWS, *crowd.rows(10), *(row for task in ledger.requests(10) for row in task.rows),
        *churn.ROWS, *runtime.ROWS, *nodes.TALK_ROWS, *nodes.carried(1), *nodes.carried(2), observing.CLOSED,
        observing.OPEN, *overload.EACH, *overload.MANY, *overload.GREEDY,
    ]  # fmt: skip
    names = [row.what for row in rows]
    assert len(names) == len(set(names))
