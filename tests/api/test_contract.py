"""The API against its own description.

schemathesis sends what `/openapi.json` allows and what it forbids, and checks every answer by all of its checks. With the
token of a user and with an admin's, each on a server of its own.

`make test` looks a little way and always the same way; `make fuzz` goes on for FUZZ_SECONDS and elsewhere each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server, start
from tests.support.service_behind import service_behind

FUZZING = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "300"))
EXAMPLES = 5

# What is left out of a run, and why. tests/operators/test_admin.py and tests/api/test_operations.py have operators' actions.
_BREAKS = "it would break the server under test"
EXCLUDED = {
    "post_api_v1_auth_logout": "it ends the session of the very token that all other requests come with",
    **{
        f"post_admin_processes_pid_{action}": _BREAKS
        for action in ("kill", "restart", "suspend", "resume", "trace")
    },
    "put_admin_processes_pid_state": _BREAKS,
    "put_admin_log_level": _BREAKS,
    "post_admin_drain": _BREAKS,
}


@pytest.fixture
def fresh_server(database: str) -> Iterator[Server]:
    """A server that nobody else uses, with a service named `go` behind it."""
    with tempfile.TemporaryDirectory() as folder, service_behind() as go_url:
        running = start(database, DATA_DIR=folder, GO_API_URL=go_url)
        yield running
        assert running.stop() == 0, "\n".join(running.lines[-40:])


def seed(server: Server, token: str, user_id: str) -> None:
    """Something of each kind to be found: by this user, for this user."""
    with server.client(token) as client:
        for path, body in (
            ("/api/v1/tasks", {"title": "write", "team_member": "ada"}),
            ("/api/v1/transactions", {"amount": "12.50", "currency": "EUR", "description": "rent"}),
        ):
            assert client.post(path, json=body).status_code == 201
    admin = server.user("admin")
    for path, body in (("/api/v1/notifications", {"user_id": user_id, "title": "hello", "body": "you"}),):
        assert admin.client.post(path, json=body).status_code == 201
    assert admin.client.put("/api/v1/flags/new_ui", json={"percent": 50}).status_code == 200


def _described(server: Server, folder: Path) -> Path:
    """The description, with amounts that are numbers narrowed to whole ones.

    JSON Schema can't say how many decimals a number may have (tests/api/test_money.py does), and what the schema allows must
    be taken.
    """

    def narrow(schema: Any) -> Any:
        if isinstance(schema, list):
            return [narrow(part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        if schema.get("type") == "number" and "exclusiveMaximum" in schema:
            return {**schema, "type": "integer"}
        return {name: narrow(part) for name, part in schema.items()}

    with server.client() as client:
        document = narrow(client.get("/openapi.json").json())
    file = folder / "openapi.json"
    file.write_text(json.dumps(document), "utf-8")
    return file


def schemathesis(server: Server, token: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One run of its command line."""
    bound = ["--max-time", str(FUZZ_SECONDS)] if FUZZING else ["--generation-deterministic"]
    excluded = [part for name in EXCLUDED for part in ("--exclude-operation-id", name)]
    return subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(Path(__file__).parents[1] / "schemathesis.toml")),
            *("run", str(_described(server, folder)), "--url", server.url),
            *("--header", f"Authorization: Bearer {token}"),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"),
            *("--max-examples", str(EXAMPLES), "--continue-on-failure", "--no-color", "--no-shrink"),
            *bound,
            *excluded,
        ],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        capture_output=True,
        text=True,
        timeout=FUZZ_SECONDS + 1200,
    )


@pytest.mark.long
@pytest.mark.timeout(FUZZ_SECONDS + 1300)
@pytest.mark.parametrize("role", ["user", "admin"])
def test_every_answer_fits_the_description_fuzz(fresh_server: Server, role: str, tmp_path: Path) -> None:
    caller = fresh_server.user(role)
    seed(fresh_server, caller.token, caller.id)
    with fresh_server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    known = {operation["operationId"] for methods in paths.values() for operation in methods.values()}
    assert EXCLUDED.keys() <= known
    run = schemathesis(fresh_server, caller.token, tmp_path)
    report = run.stdout[-20_000:] + run.stderr[-4000:]
    assert run.returncode == 0, report
    # The token held to the end, so the run was no run of 401.
    with fresh_server.client(caller.token) as client:
        assert client.get("/api/v1/auth/me").status_code == 200
        assert client.get("/api/v1/health/ready").status_code == 200
    print(report)
    assert not [line for line in fresh_server.lines if "request failed" in line], fresh_server.lines[-40:]
