"""Dockerfile, compose.yaml and the systemd unit name what exists: files, settings, commands, ports."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import yaml

from actors.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {variable.name for variable in VARIABLES}
PYTHONS_OWN = {"PYTHONUNBUFFERED", "PATH"}


def dockerfile() -> list[str]:
    """Its instructions, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def test_the_dockerfile_copies_what_exists_and_sets_known_settings() -> None:
    lines = dockerfile()
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), f"{line}: there is no {source}"
    [environment] = [line for line in lines if line.startswith("ENV ")]
    assert set(re.findall(r"(\w+)=", environment)) <= SETTINGS | PYTHONS_OWN
    copied = {line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line}
    assert {"runtime", "actors", "api", "schema"} <= copied
    assert lines[-1] == 'CMD ["bitnexus", "serve"]'
    assert "USER bitnexus" in lines
    assert "VOLUME /data" in lines
    [health] = [line for line in lines if line.startswith("HEALTHCHECK ")]
    assert "os.environ.get('PORT'" in health, "the port is a setting"
    for line in lines:
        if "pip install" in line:
            assert "--require-hashes" in line or ("--no-deps" in line and "--no-build-isolation" in line), (
                line
            )


def test_compose_gives_known_settings_and_waits_for_the_database() -> None:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    servers = [compose["services"][name] for name in ("one", "two")]
    for service in servers:
        assert set(service["environment"]) <= SETTINGS
        assert {"DATABASE_URL", "CLUSTER_URL", "METRICS_TOKEN", "TRUSTED_PROXIES"} <= set(
            service["environment"]
        )
        jwt = {name for name in SETTINGS if name.startswith("JWT_") and name != "JWT_LEEWAY"}
        assert jwt <= set(service["environment"]), jwt - set(service["environment"])
        assert service["depends_on"]["db"]["condition"] == "service_healthy"
        assert service["depends_on"]["nats"]["condition"] == "service_healthy"
    assert len({service["environment"]["NODE_NAME"] for service in servers}) == 2
    front = compose["services"]["caddy"]
    assert front["ports"] == ["${PORT:-4000}:4000"]
    address = front["networks"]["default"]["ipv4_address"]
    assert servers[0]["environment"]["TRUSTED_PROXIES"] == f"${{TRUSTED_PROXIES:-{address}}}"
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in compose["volumes"]


def test_a_breaker_that_does_not_close_raises_an_alert() -> None:
    """It goes from open to half-open by itself and waits there for a request: only `closed` says that all is well."""
    alerts = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())
    [found] = [
        rule["expr"]
        for group in alerts["groups"]
        for rule in group["rules"]
        if rule.get("alert") == "BitNexusBreakerOpen"
    ]
    assert found == 'bitnexus_breaker_state{state="closed"} == 0'


def test_what_people_read_says_they() -> None:
    """Users, admins and operators are people of whom nothing is known."""
    gendered = re.compile(r"\b(?:he|his|him|himself|she|hers?|herself)\b", re.IGNORECASE)
    told = [
        *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("api/**/*.py"), *ROOT.glob("actors/**/*.py"),
        *ROOT.glob("runtime/**/*.py"), *ROOT.glob("api/pages/*/*.html"), *ROOT.glob("api/pages/[cds]*/*.js"),
        *ROOT.glob("deploy/**/*.yml"), ROOT / "supervisor.toml",
    ]  # fmt: skip
    assert len(told) > 100
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in told
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if gendered.search(line)
    ]
    assert found == []


def test_the_unit_starts_the_command_with_known_settings() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "deploy" / "bitnexus.service")
    service = unit["Service"]
    assert service["ExecStart"].endswith("/.venv/bin/bitnexus serve")
    assert set(re.findall(r"(\w+)=", service["Environment"])) <= SETTINGS | PYTHONS_OWN
    assert int(service["TimeoutStopSec"]) > 10, "a stop may take ten seconds"


def test_the_readme_names_what_exists() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)", text):
        assert re.search(rf"^{target}:", makefile, re.M), f"README: make {target} does not exist"
    for path in re.findall(r"`((?:deploy|tests|requirements|docs)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
