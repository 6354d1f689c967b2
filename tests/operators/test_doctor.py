"""`bitnexus doctor`: a line for each check, what to do about it, and no end at the first fault."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.operators.test_cli import bitnexus, one_line
from tests.operators.test_settings import STRONG


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
