"""docs/operations.md is true.

Its table of variables is the settings' own, its commands exist, and doctor's lines are what doctor says.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from pathlib import Path
from uuid import uuid4

import jwt
import pytest

from actors.settings import VARIABLES, load
from api.cli import doctor
from api.cli.doctor import Finding
from api.cli.main import parser
from api.security.tokens import Keyring
from tests.support.server import ROOT, SECRET

TEXT = (ROOT / "docs" / "operations.md").read_text()


def test_every_variable_stands_in_the_table_with_its_default_and_meaning() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*) \|$", TEXT, re.M)
    assert rows == [
        (variable.name, f"`{variable.default}`" if variable.default else "", variable.meaning)
        for variable in VARIABLES
    ]


def test_the_commands_in_it_exist() -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    named = set(re.findall(r"bitnexus ([a-z]+)", TEXT))
    assert {"serve", "doctor", "config", "migrate", "psql", "tree"} <= named
    assert named <= set(commands), named - set(commands)
    for path in re.findall(r"`((?:deploy|actors|docs)/[\w./]+)`", TEXT) + re.findall(r"\]\(([\w.]+)\)", TEXT):
        assert (ROOT / path).exists() or (ROOT / "docs" / path).exists(), path


def quoted(finding: Finding, *also: str) -> None:
    """Its words stand in the troubleshooting part, apart from what differs from case to case."""
    said = f"{finding.text} -> {finding.advice}"
    for part in also:
        said = said.replace(part, "…")
    assert said in TEXT, said


def findings(token: str | None = None, **env: str) -> dict[str, Finding]:
    """What doctor finds with this environment."""

    async def main() -> dict[str, Finding]:
        return {found.name: found async for found in doctor.findings(load(env), token)}

    return asyncio.run(main())


def test_the_guides_cases_are_shown_as_doctor_says_them(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = findings(
            DATA_DIR=str(tmp_path),
            PORT=port,
            DATABASE_URL="postgresql://ada:hush@127.0.0.1:1/bank",
            SECRET_KEY_BASE="short",
            GO_API_URL="http://127.0.0.1:1",
        )
    assert not any(found[name].ok for name in ("port", "database", "secret", "go"))
    quoted(found["port"], port)
    quoted(found["database"], "postgresql://ada:********@127.0.0.1:1/bank")
    quoted(found["secret"])
    quoted(found["go"], "http://127.0.0.1:1")


@pytest.mark.parametrize("case", ["malformed", "expired", "another secret"])
def test_doctor_says_why_a_token_is_refused(case: str, tmp_path: Path) -> None:
    env = {"DATA_DIR": str(tmp_path), "SECRET_KEY_BASE": SECRET, "PORT": "0", "DATABASE_URL": DOWN}
    token = Keyring(load(env)).issue(uuid4(), "user", "ada@example.com", None)
    found = findings(token, **env)["token"]
    assert found.ok and "role user" in found.text
    claims = jwt.decode(token, options={"verify_signature": False})
    wrong = {
        "malformed": "Bearer " + token,
        "expired": jwt.encode({**claims, "exp": int(time.time()) - 60}, SECRET, "HS256"),
        "another secret": jwt.encode(claims, "x" * 40, "HS256"),
    }[case]
    found = findings(wrong, **env)["token"]
    assert not found.ok
    quoted(found)


DOWN = "postgresql://ada@127.0.0.1:1/bank"
