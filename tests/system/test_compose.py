"""compose.yaml without containers: its schema by docker-compose, and its parts run as it says, each by the real program.

The servers have the environment of compose.yaml, NATS and Caddy the files that it mounts; only names and ports of the containers'
network are this machine's.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.http import peers
from tests.support.ports import free_port
from tests.support.server import PATIENCE, ROOT, SECRET, Server, start, wait_until

GIVEN = {"SECRET_KEY_BASE": SECRET, "POSTGRES_PASSWORD": "b" * 24, "NATS_PASSWORD": "c" * 24}
FILE = ROOT / "compose.yaml"


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs docker-compose")
def test_the_file_fits_its_schema_and_says_what_it_needs(tmp_path: Path) -> None:
    nothing = tmp_path / "env"  # in the place of a .env
    nothing.touch()

    def config(**given: str) -> subprocess.CompletedProcess[str]:
        known = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
        return subprocess.run(
            ["docker-compose", "-f", str(FILE), "--env-file", str(nothing), "config"],
            env=known | given,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    sound = config(**GIVEN)
    assert sound.returncode == 0, sound.stderr
    assert set(yaml.safe_load(sound.stdout)["services"]) == {"one", "two", "nats", "caddy", "db"}
    for name in GIVEN:
        without = config(**{key: value for key, value in GIVEN.items() if key != name})
        assert without.returncode != 0 and name in without.stderr


def filled(value: str) -> str:
    """A value of compose.yaml with its variables."""
    return re.sub(
        r"\$\{(\w+):([-?])([^}]*)\}",
        lambda found: GIVEN.get(found[1]) or (found[3] if found[2] == "-" else ""),
        value,
    )


@dataclass
class Composed:
    """What runs."""

    url: str
    servers: dict[str, Server]

    def ready(self) -> dict[str, Any]:
        """The readiness of whichever server Caddy chooses, on a connection of its own; nobody's while it finds none."""
        answer = httpx.get(f"{self.url}/api/v1/health/ready", trust_env=False, timeout=PATIENCE)
        return answer.json() if answer.status_code == 200 else {"node": "", "nodes": []}


@pytest.fixture(scope="module")
def composed(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """NATS, two servers and Caddy, as compose.yaml has them."""
    caddy, program = peers.installed("caddy"), peers.installed("nats-server")
    if caddy is None or program is None:
        pytest.skip("needs caddy and nats-server")
    folder = tmp_path_factory.mktemp("compose")
    services = yaml.safe_load(FILE.read_text())["services"]
    with contextlib.ExitStack() as stack:
        nats = str(free_port())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(folder))
            patch.setenv("NATS_PASSWORD", GIVEN["NATS_PASSWORD"])
            settings = ("-c", mounted(services["nats"], "/etc/nats/bitnexus.conf"))
            here = ("-a", "127.0.0.1", "-p", nats, "-m", "-1")
            process = stack.enter_context(peers.running(program, *settings, *here))
            peers.wait_for_port(int(nats), process)
            ports = {name: str(free_port()) for name in ("one", "two")}
            servers: dict[str, Server] = {}
            for name, port in ports.items():
                given = {key: filled(str(value)) for key, value in services[name]["environment"].items()}
                given |= {"PORT": port, "HOST": "127.0.0.1", "BITNEXUS_ENV": "prod", "DATA_DIR": str(folder)}
                given["CLUSTER_URL"] = given["CLUSTER_URL"].replace("@nats:4222", f"@127.0.0.1:{nats}")
                del given["DATABASE_URL"]
                servers[name] = start(module_database, **given)
                stack.callback(servers[name].stop)
            front = free_port()
            text = Path(mounted(services["caddy"], "/etc/caddy/Caddyfile")).read_text()
            text = text.replace(":4000 {", f"http://127.0.0.1:{front} {{", 1)
            for name, port in ports.items():
                text = text.replace(f"{name}:4000", f"127.0.0.1:{port}")
            (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + text)
            arguments = ("run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile")
            process = stack.enter_context(peers.running(caddy, *arguments))
            peers.wait_for_port(int(front), process)
        yield Composed(f"http://127.0.0.1:{front}", servers)


def mounted(service: dict[str, Any], place: str) -> str:
    """The file of the repository that a service finds at this place."""
    [source] = [one.split(":")[0] for one in service["volumes"] if one.split(":")[1] == place]
    return str(ROOT / source)


def test_both_servers_answer_and_see_each_other(composed: Composed) -> None:
    wait_until(lambda: len(composed.ready()["nodes"]) == 1)
    seen = set[str]()

    def both() -> bool:
        seen.add(composed.ready()["node"])
        return seen >= {"bitnexus@one", "bitnexus@two"}

    wait_until(both)


def test_a_server_may_be_replaced_behind_caddy(composed: Composed) -> None:
    """No request fails while one of the two ends and comes back, though Caddy learns of it by trying."""
    failures: list[str] = []
    answered = 0
    done = threading.Event()

    def ask() -> None:
        nonlocal answered
        while not done.is_set():
            try:
                answer = httpx.get(f"{composed.url}/api/v1/health", trust_env=False, timeout=PATIENCE)
                if answer.status_code != 200:
                    failures.append(f"{answer.status_code} {answer.text}")
            except httpx.HTTPError as error:
                failures.append(repr(error))
            answered += 1

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        wait_until(lambda: answered > 20)
        assert composed.servers["one"].stop() == 0
        seen = answered
        wait_until(lambda: answered > seen + 20)
        wait_until(lambda: composed.ready()["node"] == "bitnexus@two")
    finally:
        done.set()
        asking.join(PATIENCE)
    assert failures == []


def test_the_files_for_a_cluster_are_such_that_their_programs_take() -> None:
    program = peers.installed("nats-server")
    if program is None:
        pytest.skip("needs nats-server")
    variables = {**os.environ, "NATS_NAME": "nats-1", "NATS_PASSWORD": "a" * 24}
    file = ROOT / "deploy" / "cluster" / "nats.conf"
    checked = subprocess.run([program, "-c", file, "-t"], env=variables, capture_output=True, text=True)
    assert checked.returncode == 0 and "is valid" in checked.stdout + checked.stderr
    settings = configparser.ConfigParser(comment_prefixes=(";",))
    settings.read(ROOT / "deploy" / "cluster" / "pgbouncer.ini")
    # Serve refuses the others: tests/storage/test_pgbouncer.py.
    assert settings["pgbouncer"]["pool_mode"] == "session"
