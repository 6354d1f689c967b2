"""docs/suites.md, the peers' test suites case by case: what it names is there, and nothing is left out without a reason."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.otp.made_scenarios import MADE

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "suites.md").read_text(encoding="utf-8")
RANDOM = {"state_machines", *MADE}
SCENARIOS = {
    "traces": {"exits", "gen_server", "links", "messages", "monitors", "names", "supervisor", "timers"},
    "traces of nodes": {
        "exits", "gen_server", "global", "links", "monitors", "names", "node_up_down", "order", "overlap", "partition", "pg",
        "restart_incarnation", "rpc", "send", "supervisors", "timers",
    },
    "transcripts": {
        "binary", "broadcast", "close", "handshake", "heartbeat", "idle", "join", "leave", "longpoll", "malformed", "presence",
        "push", "reply", "shutdown", "stop",
    },
    "random": RANDOM,
}  # fmt: skip


def suites() -> dict[str, list[list[str]]]:
    """The rows of each suite: cases, what covers them, what is left out and why."""
    found: dict[str, list[list[str]]] = {}
    for section in TEXT.split("\n## ")[1:]:
        name, _, body = section.partition("\n")
        lines = [line for line in body.splitlines() if line.startswith("| ")]
        found[name] = [[cell.strip() for cell in re.split(r" \|", line[2:])] for line in lines[1:]]
    return found


@cache
def known_tests() -> set[str]:
    """Every test function, as `test_file::test_name`, and every file of tests."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found.add(path.stem)
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found.update(f"{path.stem}::{node.name}" for node in tree if isinstance(node, functions))
    return found


@pytest.mark.parametrize("suite", suites())
def test_what_covers_a_case_is_there(suite: str) -> None:
    programs = json.loads((ROOT / "tests" / "elixir" / "recorded.json").read_text())
    for cases, covered, why, *_ in suites()[suite]:
        assert cases and (covered or why), f"{cases}: neither a test nor a reason"
        assert why.rstrip(".").lower() not in ("missing", "none", "not here"), (
            f"{cases}: left out without a reason"
        )
        for part in filter(None, covered.split("; ")):
            named = re.fullmatch(r"(?:([a-z ]+) )?`([\w:]+)`", part)
            assert named, part
            kind, name = named.groups()
            known = known_tests() if kind is None else programs if kind == "program" else SCENARIOS[kind]
            assert name in known, f"{suite}: {part} is not there"


def test_every_case_of_otp_stands_once() -> None:
    for suite, rows in suites().items():
        if suite.endswith("_SUITE"):
            named = Counter(name for row in rows for name in re.findall(r"`(\w+)`", row[0]))
            assert named and max(named.values()) == 1, (suite, named.most_common(1))


def test_the_suites_are_all_there() -> None:
    assert len(suites()) >= 30 and sum(len(rows) for rows in suites().values()) >= 200
    assert "suites.md" in (ROOT / "docs" / "runtime.md").read_text(encoding="utf-8")
