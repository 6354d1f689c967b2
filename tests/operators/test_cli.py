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

from actors.settings import VARIABLES, ConfigError, load, mask_url, show, weakness
from actors.storage.postgres.process import postmaster_pid
from api.http.cors import Cors
from api.sockets.user_socket import check_origin
from runtime.phoenix.check_origin import OriginPolicy
from tests.support.server import ROOT, SECRET, Server, environment, start, wait_until

STRONG = "kJ8s0vQ2mZ4xW6yB1nC3dF5gH7jL9pR0tU2w"


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


# ---- settings


def test_settings_are_read_and_shown_with_secrets_masked() -> None:
    url = "postgresql://ada:secret@db:5432/bank"
    settings = load(
        {
            "PORT": "4001",
            "DATABASE_URL": url,
            "SECRET_KEY_BASE": STRONG,
            "GO_API_URL": "http://go:8080",
            "SERVICES": "a=http://a:1,b=http://b:2",
        }
    )
    assert settings.port == 4001 and settings.go_services() == {
        "a": "http://a:1",
        "b": "http://b:2",
        "go": "http://go:8080",
    }
    shown = {line.name: line for line in show(settings)}
    assert list(shown) == [variable.name for variable in VARIABLES]
    assert shown["PORT"].source == "environment" and shown["HOST"].source == "default"
    text = "".join(line.value for line in shown.values())
    assert "secret" not in text and STRONG not in text and "ada:********@db" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "x"),
        ("PORT", "70000"),
        ("BITNEXUS_ENV", "live"),
        ("DATABASE_URL", "mysql://x"),
        ("DATABASE_URL", "postgresql://h:port/x"),
        *(("PORT", text) for text in ("\u0663", "+5", "1_000", "0x10", "1e3", "5.0", "9" * 5000)),
        *(("HOST", text) for text in ("[::1]", "127.0.0.1:80", "http://x", "a b", "*", "256.1.1.1")),
        ("CORS_ORIGINS", "example.com"),
        *(
            ("CORS_ORIGINS", f"https://{text}")
            for text in ("a.com/x", "a.com?x", "a.com#x", "u:p@a.com", "a.com:99999", "a b", "")
        ),
        ("CORS_ORIGINS", "https://a.com https://b.com"),
        *(
            ("TRUSTED_PROXIES", text)
            for text in ("x", "10.0.0.0/99", "[::1]", "10.0.0.1:80", "10.0.0.1 10.0.0.2", "localhost")
        ),
        *(
            ("GO_API_URL", text)
            for text in ("http:// h", "http://:80", "http://h h", "http://h\n/", "http://u:p@h", "http://h?x")
        ),
        *(
            ("SERVICES", text)
            for text in ("a=", "=http://h", "a=http://h,a=http://g", "\u00e9=http://h", "a=ftp://h")
        ),
        *(("METRICS_TOKEN", text) for text in (" a", " ", "a\n", "\u00e9")),
        ("CLUSTER_CA", "/"),
        ("GO_API_URL", "go:8080"),
        ("SERVICES", "http://a"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({name: value})
    assert str(caught.value).startswith(name) and "\n" not in str(caught.value)
    assert "u:p@" not in str(caught.value)


def test_origins_are_compared_as_browsers_write_them() -> None:
    given = load({"CORS_ORIGINS": "HTTPS://App.example.com:443/, http://[::1]:3000,https://*.example.org"})
    assert given.cors_origins == ("https://app.example.com", "http://[::1]:3000", "https://*.example.org")
    allowed = [
        origin
        for origin in (
            "https://app.example.com",
            "https://a.example.org",
            "https://evil.test",
            "https://a.example.org.evil.test",
        )
        if Cors(given).allows(origin.encode())
        and OriginPolicy(check_origin(given)).allows(origin, "http", "x", 1)
    ]
    assert allowed == ["https://app.example.com", "https://a.example.org"]


@pytest.mark.parametrize(
    "secret", ["", "short", "a" * 64, "your_secret_key_your_secret_key_1234567890", "changeme" * 8]
)
def test_prod_refuses_weak_secrets(secret: str) -> None:
    with pytest.raises(ConfigError, match="SECRET_KEY_BASE"):
        load({"BITNEXUS_ENV": "prod", "SECRET_KEY_BASE": secret})


def test_prod_takes_a_strong_secret() -> None:
    assert load({"BITNEXUS_ENV": "prod", "SECRET_KEY_BASE": STRONG}).production and not weakness(STRONG)


def test_passwords_in_urls_are_masked() -> None:
    assert mask_url("postgresql://u:p%40ss@h/d") == "postgresql://u:********@h/d"
    assert "topsecret" not in mask_url("postgresql://h/d?user=u&password=topsecret")


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


def test_ctrl_c_stops_in_reverse_order_and_leaves_nothing(database: str, tmp_path: Path) -> None:
    server = start(database, DATA_DIR=str(tmp_path))
    before = psutil.Process(server.process.pid).children(recursive=True)
    began = time.monotonic()
    server.process.send_signal(signal.SIGINT)
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


def test_doctor_tells_every_fault_at_once(tmp_path: Path) -> None:
    done = bitnexus(
        "doctor", BITNEXUS_ENV="prod", SECRET_KEY_BASE="weak", PORT="abc", CORS_ORIGINS="x", TRUSTED_PROXIES="y",
        DATABASE_URL="mysql://x", CLUSTER_URL="nats://u:secret@127.0.0.1:1", GO_API_URL="http://127.0.0.1:1",
        JWT_PREVIOUS_KEYS="/no/such.pem", DATA_DIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    for name in (
        "PORT",
        "CORS_ORIGINS",
        "TRUSTED_PROXIES",
        "DATABASE_URL",
        "SECRET_KEY_BASE",
        "JWT_PREVIOUS_KEYS",
        "nats://",
        "go at",
    ):
        assert [line for line in failed if name in line], name
    assert len(failed) == 8 and "secret@" not in done.stdout


def test_doctor_says_what_to_do(database: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = bitnexus(
            "doctor",
            DATA_DIR=str(tmp_path),
            PORT=str(taken.getsockname()[1]),
            DATABASE_URL="postgresql://ada:hush@127.0.0.1:1/bank",
            SECRET_KEY_BASE="short",
            GO_API_URL="http://127.0.0.1:1",
        )
    assert said.returncode == 1 and "Traceback" not in said.stderr
    lines = said.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["FAIL", name] for name in ("port", "database", "secret", "go")
    ]
    assert all("->" in line for line in lines) and "hush" not in said.stdout
    well = bitnexus("doctor", DATA_DIR=str(tmp_path), PORT="0", DATABASE_URL=database, SECRET_KEY_BASE=STRONG)
    assert well.returncode == 0, well.stdout


@pytest.mark.parametrize("secret", ["short", ""])
def test_doctor_goes_on_after_a_secret_that_prod_refuses(tmp_path: Path, secret: str) -> None:
    database = {"DATABASE_URL": "postgresql://ada:hush@127.0.0.1:1/bank", "GO_API_URL": "http://127.0.0.1:1"}
    environment = {"BITNEXUS_ENV": "prod", "SECRET_KEY_BASE": secret, "DATA_DIR": str(tmp_path), "PORT": "0"}
    said = bitnexus("doctor", **environment, **database)
    assert said.returncode == 1 and "Traceback" not in said.stderr
    assert [line.split()[:2] for line in said.stdout.splitlines()] == [
        ["ok", "port"],
        ["FAIL", "database"],
        ["FAIL", "secret"],
        ["FAIL", "go"],
    ]
    assert not list(tmp_path.iterdir()), "it makes no development key in prod"
    assert "SECRET_KEY_BASE" in one_line(bitnexus("ledger", "verify", **environment, **database))


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
