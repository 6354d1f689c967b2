"""`bitnexus serve --nodes N`: several server processes on one port, replaced, killed and stopped while requests come in."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from actors.settings import load
from api.cli.database import CommandError
from api.cli.serve_nodes import hold, upgrade
from tests.support.server import PATIENCE, ROOT, Server, environment, start, wait_until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def nodes(module_database: str, folder: Path) -> Iterator[Server]:
    """A parent with two servers."""
    running = start(module_database, ("--nodes", "2"), DATA_DIR=str(folder))
    yield running
    running.stop()


def servers(parent: Server) -> list[psutil.Process]:
    """The server processes of a parent."""

    def serves(child: psutil.Process) -> bool:
        try:
            return "api.cli" in child.cmdline()
        except psutil.NoSuchProcess:  # it has ended since it was listed, or is dead and not yet waited for
            return False

    return list(filter(serves, psutil.Process(parent.process.pid).children()))


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended; who has and is not yet waited for, has."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Load:
    """Requests, each on a connection of its own, until it is stopped; what failed is kept."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answered = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = httpx.get(f"{self.url}/api/v1/health", trust_env=False, timeout=PATIENCE)
                if answer.status_code != 200:
                    self.failures.append(str(answer.status_code))
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
            self.answered += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.answered > 20)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)


def test_an_upgrade_replaces_every_server_and_no_request_fails(nodes: Server, folder: Path) -> None:
    before = {child.pid for child in servers(nodes)}
    assert len(before) == 2
    with Load(nodes.url) as load:
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", "upgrade"],
            cwd=ROOT,
            env=environment(DATA_DIR=str(folder)),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        seen = load.answered
        wait_until(lambda: load.answered > seen + 20)
    assert done.returncode == 0 and done.stdout == "all servers are replaced\n", done
    assert load.failures == []
    after = {child.pid for child in servers(nodes)}
    assert len(after) == 2 and not before & after


def test_a_server_that_is_killed_comes_back(nodes: Server) -> None:
    victim, other = servers(nodes)
    victim.kill()

    def back() -> bool:
        now = {child.pid for child in servers(nodes)}
        return len(now) == 2 and victim.pid not in now and other.pid in now

    wait_until(back)
    # Connections that come to its place while it is away wait there.
    for _ in range(20):
        assert httpx.get(f"{nodes.url}/api/v1/health", trust_env=False, timeout=PATIENCE).status_code == 200


def test_servers_do_not_outlive_their_parent(module_database: str, tmp_path: Path) -> None:
    parent = start(module_database, ("--nodes", "2"), DATA_DIR=str(tmp_path))
    children = psutil.Process(parent.process.pid).children()
    assert len(children) == 3  # NATS as well
    parent.process.kill()
    parent.process.wait()
    _gone, left = psutil.wait_procs(children, timeout=PATIENCE)
    assert left == []


def test_the_end_is_in_order_and_complete(module_database: str, tmp_path: Path) -> None:
    parent = start(module_database, ("--nodes", "2"), DATA_DIR=str(tmp_path))
    children = psutil.Process(parent.process.pid).children()
    parent.process.send_signal(signal.SIGINT)
    assert parent.process.wait(PATIENCE) == 0
    assert not any(runs(child) for child in children)
    assert not (tmp_path / "servers.json").exists()


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        (("--nodes", "0"), {}, "bitnexus serve: argument --nodes: 0: expected a whole number, from 1 to 64"),
        (
            ("--nodes", "2"),
            {"BITNEXUS_ENV": "prod", "SECRET_KEY_BASE": ""},
            "bitnexus: SECRET_KEY_BASE: unset",
        ),
        (("--nodes", "2"), {"NODE_NAME": "no host"}, "bitnexus: NODE_NAME='no host': expected name@host"),
    ],
)
def test_a_mistake_is_one_line(
    module_database: str, tmp_path: Path, arguments: tuple[str, ...], changes: dict[str, str], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "serve", *arguments],
        cwd=ROOT,
        env=environment(**{"DATABASE_URL": module_database, "DATA_DIR": str(tmp_path)} | changes),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == (2 if "argument" in said else 1)
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1


# What a parent that was killed leaves; its process id is another program's by now.
STALE = {"pid": 1, "upgrade": 0, "state": "ready"}


def test_an_upgrade_without_servers_signals_nobody(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        (tmp_path / "servers.json").write_text(json.dumps(STALE | {"pid": stranger.pid}))
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", "upgrade"],
            cwd=ROOT,
            env=environment(DATA_DIR=str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 1 and "nothing to upgrade" in done.stderr
        assert stranger.poll() is None
        stranger.kill()


def test_two_who_ask_for_an_upgrade_at_once_are_no_parent_to_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("signalled a stranger"))
    (tmp_path / "servers.json").write_text(json.dumps(STALE))
    with (tmp_path / "servers.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(CommandError, match="nothing to upgrade"):
            upgrade(load({"DATA_DIR": str(tmp_path)}))


def test_a_parent_that_starts_is_not_taken_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("signalled a stranger"))
    (tmp_path / "servers.json").write_text(json.dumps(STALE))
    settings = load({"DATA_DIR": str(tmp_path)})
    held = hold(settings)
    assert held is not None
    with pytest.raises(CommandError, match="nothing to upgrade"):
        upgrade(settings)
    os.close(held)


def test_a_second_parent_on_one_data_dir_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "servers.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", "serve", "--nodes", "2"],
            cwd=ROOT,
            env=environment(DATA_DIR=str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert done.returncode == 1 and done.stderr.startswith("bitnexus: DATA_DIR: another")
