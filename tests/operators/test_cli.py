"""The command `bitnexus`: as a person runs it, on real servers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from actors.settings import VARIABLES
from actors.storage.postgres.process import postmaster_pid
from tests.operators.test_settings import STRONG
from tests.support.server import ROOT, SECRET, Server, environment, start, wait_until


def bitnexus(
    *arguments: str, timeout: float = 60, cwd: Path = ROOT, typed: str = "", **changes: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments],
        cwd=cwd,
        env=environment(**changes) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        input=typed,
        timeout=timeout,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command says; exit code 1, no traceback."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("bitnexus: ")]
    assert len(lines) == 1, done.stderr
    return lines[0].removeprefix("bitnexus: ")


# ---- a start that fails


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"PORT": "4x"}, "PORT='4x'"),
        ({"BITNEXUS_ENV": "prod"}, "SECRET_KEY_BASE: unset"),
        ({"BITNEXUS_ENV": "prod", "SECRET_KEY_BASE": "weak"}, "SECRET_KEY_BASE: too weak"),
        ({"JWT_PRIVATE_KEY": "/nowhere.pem"}, "JWT_PRIVATE_KEY: can't read"),
        (
            {"DATABASE_URL": "postgresql://ada:secret@127.0.0.1:1/x"},
            "DATABASE_URL: can't connect to postgresql://ada:********@127.0.0.1:1/x",
        ),
        ({"HOST": "192.0.2.1"}, "HOST: 192.0.2.1"),
    ],
)
def test_serve_says_in_one_line_what_is_wrong(changes: dict[str, str], expected: str, tmp_path: Path) -> None:
    assert one_line(bitnexus("serve", **{"DATA_DIR": str(tmp_path), **changes})).startswith(expected)


def test_wrong_password_and_missing_database(database: str, tmp_path: Path) -> None:
    wrong = re.sub(r"://bitnexus:[^@]+@", "://bitnexus:wrong@", database)
    assert "DATABASE_URL" in one_line(bitnexus("serve", DATA_DIR=str(tmp_path), DATABASE_URL=wrong))
    missing = re.sub(r"/test_\d+", "/nowhere", database)
    assert "nowhere" in one_line(bitnexus("serve", DATA_DIR=str(tmp_path), DATABASE_URL=missing))


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = one_line(bitnexus("serve", DATA_DIR=str(tmp_path), PORT=str(port)))
    assert said.startswith(f"PORT: {port}") and "in use" in said


def test_a_typo_in_supervisor_toml(tmp_path: Path) -> None:
    text = (ROOT / "supervisor.toml").read_text()
    (tmp_path / "supervisor.toml").write_text(
        text.replace('start = "actors.storage.repo:Repo"', 'strat = "actors.storage.repo:Repo"')
    )
    said = one_line(bitnexus("serve", cwd=tmp_path, DATA_DIR=str(tmp_path)))
    assert "supervisor.toml" in said and "[worker.repo]" in said and "strat" in said and "start" in said
    (tmp_path / "supervisor.toml").write_text(text.replace("api.app:create_app", "api.app:create_ap"))
    said = one_line(bitnexus("serve", cwd=tmp_path, DATA_DIR=str(tmp_path)))
    assert "create_ap" in said


# ---- the embedded database, from nothing


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """A folder whose parents every user may enter, since as root the database runs as another one."""
    folder = Path(tempfile.mkdtemp(prefix="bitnexus-cli-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def embedded_server(data_dir: Path) -> Iterator[tuple[Server, Path]]:
    """A server with a database of its own, made from nothing."""
    server = start("", DATABASE_URL="", SECRET_KEY_BASE="", DATA_DIR=str(data_dir))
    yield server, data_dir
    assert server.stop() == 0
    assert processes_of(data_dir) == []


def processes_of(folder: Path) -> list[psutil.Process]:
    """Who has the folder in his command line."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]


def test_users_are_created_in_the_running_server(embedded_server: tuple[Server, Path]) -> None:
    server, folder = embedded_server
    here = {"DATA_DIR": str(folder), "PORT": server.url.rsplit(":", 1)[1]}
    made = bitnexus(
        "user",
        "create",
        "Ada@Example.com",
        "--password",
        "long enough",
        "--role",
        "admin",
        "--name",
        "Ada",
        **here,
    )
    assert made.returncode == 0, made.stderr
    user = json.loads(made.stdout)
    assert (user["email"], user["role"], user["name"]) == ("ada@example.com", "admin", "Ada") and set(
        user
    ) == {"id", "email", "name", "role"}
    with server.client() as client:
        answer = client.post(
            "/api/v1/auth/login", json={"email": "ada@example.com", "password": "long enough"}
        )
        assert answer.status_code == 200 and answer.json()["user"]["id"] == user["id"]
    assert "already" in one_line(
        bitnexus("user", "create", "ada@example.com", "--password", "long enough", **here)
    )
    for given in (("--password", "-"), ()):
        done = bitnexus(
            "user", "create", f"typed{len(given)}@example.com", *given, typed="typed in\n", **here
        )
        assert done.returncode == 0, done.stderr
        with server.client() as client:
            login = {"email": f"typed{len(given)}@example.com", "password": "typed in"}
            assert client.post("/api/v1/auth/login", json=login).status_code == 200
        done = bitnexus("user", "create", "x@example.com", *given, typed="short\n", **here)
        assert "8 to 1000 characters" in one_line(done)
    assert "8 to 1000" in one_line(bitnexus("user", "create", "x@example.com", "--password", "short", **here))
    assert "e-mail" in one_line(bitnexus("user", "create", "ada", "--password", "long enough", **here))


def test_commands_read_and_check_what_the_server_writes(embedded_server: tuple[Server, Path]) -> None:
    server, folder = embedded_server
    here = {"DATA_DIR": str(folder), "PORT": server.url.rsplit(":", 1)[1]}
    assert "up to date" in bitnexus("migrate", **here).stdout

    bitnexus("user", "create", "psql@example.com", "--password", "long enough", **here)
    said = bitnexus("psql", "-c", "SELECT email FROM users", **here)
    assert said.returncode == 0 and "psql@example.com" in said.stdout
    assert bitnexus("psql", "-c", "SELECT nonsense", **here).returncode != 0

    demo = bitnexus("demo", "--count", "2", **here)
    assert demo.returncode == 0, demo.stderr
    for expected in (
        "signed in",
        "joined transaction:",
        "201: transaction",
        "the channel got new_transaction",
        "verified",
        "entries",
    ):
        assert expected in demo.stdout
    assert demo.stdout.count("new_transaction") == 2

    doctor = bitnexus("doctor", **here)
    assert doctor.returncode == 0, doctor.stdout
    assert "BitNexus serves on" in doctor.stdout and "development key" in doctor.stdout

    sound = bitnexus("ledger", "verify", **here)
    assert sound.returncode == 0 and re.match(r"sound: 2 entries, root [0-9a-f]{64}", sound.stdout)
    bitnexus("psql", "-c", "UPDATE transactions SET amount = 5 WHERE description = 'demo 2'", **here)
    found = bitnexus("ledger", "verify", **here)
    assert found.returncode == 1 and "seq 2" in found.stdout and "transaction_changed" in found.stdout


def test_the_postmaster_killed_comes_back(embedded_server: tuple[Server, Path]) -> None:
    server, folder = embedded_server
    here = {"DATA_DIR": str(folder), "PORT": server.url.rsplit(":", 1)[1]}
    bitnexus("user", "create", "eve@example.com", "--password", "long enough", **here)
    with server.client() as client:
        login = {"email": "eve@example.com", "password": "long enough"}
        token = client.post("/api/v1/auth/login", json=login).json()["token"]
    data = folder / "postgres" / "data"
    old = postmaster_pid(data)
    assert old is not None
    os.kill(old, signal.SIGKILL)
    # A backend may serve until it has seen the end.
    wait_until(lambda: postmaster_pid(data) not in (None, old))
    with server.client(token) as client:
        body = {"amount": "1", "currency": "EUR"}
        wait_until(lambda: client.post("/api/v1/transactions", json=body).status_code == 201)


def test_commands_without_a_server_start_the_database_and_stop_it() -> None:
    with tempfile.TemporaryDirectory(prefix="bitnexus-cli-") as folder:
        Path(folder).chmod(0o755)
        made = bitnexus("user", "create", "bob@example.com", "--password", "long enough", DATA_DIR=folder)
        assert made.returncode == 0, made.stderr
        said = bitnexus("psql", "-c", "SELECT email FROM users", DATA_DIR=folder)
        assert "bob@example.com" in said.stdout
        assert processes_of(Path(folder)) == []


# ---- stop, config, doctor, demo


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_stop_in_reverse_order_and_leave_nothing(
    database: str, tmp_path: Path, number: signal.Signals
) -> None:
    server = start(database, DATA_DIR=str(tmp_path))
    before = psutil.Process(server.process.pid).children(recursive=True)
    began = time.monotonic()
    server.process.send_signal(number)
    assert server.process.wait(60) == 0
    assert time.monotonic() - began < 10
    assert not [child for child in before if child.is_running()]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))


def test_config_lists_everything_and_no_secret(tmp_path: Path) -> None:
    said = bitnexus(
        "config", SECRET_KEY_BASE=STRONG, DATABASE_URL="postgresql://ada:hush@db/bank", DATA_DIR=str(tmp_path)
    )
    assert said.returncode == 0
    for variable in VARIABLES:
        assert variable.name in said.stdout
    assert STRONG not in said.stdout and "hush" not in said.stdout


def test_demo_without_a_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert "bitnexus serve" in one_line(bitnexus("demo", DATA_DIR=str(tmp_path), PORT=str(port)))


def test_ledger_verify_and_migrate_on_a_given_database(
    database: str, empty_database: str, tmp_path: Path
) -> None:
    here = {"DATA_DIR": str(tmp_path), "SECRET_KEY_BASE": SECRET}
    assert bitnexus("ledger", "verify", DATABASE_URL=database, **here).stdout.startswith("sound: 0 entries")
    applied = bitnexus("migrate", DATABASE_URL=empty_database, **here)
    assert applied.returncode == 0 and "applied 0001_users" in applied.stdout
    assert "0 migrations" in bitnexus("migrate", DATABASE_URL=empty_database, **here).stdout
