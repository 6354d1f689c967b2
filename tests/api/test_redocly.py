"""The description keeps the rules that redocly recommends, without a warning."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec

from api.app import ROUTES
from api.http import openapi
from api.http.router import Router
from tests.node import HERE, NODE, environment

REDOCLY = HERE / "node_modules" / "@redocly" / "cli" / "bin" / "cli.js"


def test_the_description_keeps_redoclys_recommended_rules(tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    file.write_bytes(msgspec.json.encode(openapi.build(Router(ROUTES).operations)))
    ran = subprocess.run(
        [NODE, str(REDOCLY), "lint", str(file), "--extends=recommended", "--format=json"],
        env=environment(REDOCLY_TELEMETRY="off", REDOCLY_SUPPRESS_UPDATE_NOTICE="true"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = json.loads(ran.stdout[ran.stdout.index("{") :])
    assert [(each["ruleId"], each["location"][0]["pointer"]) for each in found["problems"]] == []
    assert ran.returncode == 0, ran.stderr
