"""docs/telemetry.md lists the events that the code executes: each of them, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def executed() -> set[tuple[str, ...]]:
    """The events of all `telemetry.execute` calls and spans; a name stands for the constant of that file."""
    found: set[tuple[str, ...]] = set()
    for package in ("runtime", "actors", "api"):
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text())
            constants: dict[str, ast.expr] = {}
            for node in tree.body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    constants[node.targets[0].id] = node.value
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                    constants[node.target.id] = node.value
            for node in ast.walk(tree):
                match node:
                    case ast.Call(
                        func=ast.Attribute(value=ast.Name("telemetry"), attr="execute"), args=[event, *_]
                    ):
                        value = constants[event.id] if isinstance(event, ast.Name) else event
                        found.add(ast.literal_eval(value))
                    case ast.Call(
                        func=ast.Attribute(value=ast.Name(name), attr="start" | "ended" as said)
                    ) if (kind := span(constants.get(name))) is not None:
                        ends = ("start", "stop", "exception") if said == "start" else ("stop", "exception")
                        found |= {(*kind, end) for end in ends}
    return found


def span(value: ast.expr | None) -> tuple[str, ...] | None:
    """The name of a `telemetry.Span(...)`, None for what is no span."""
    match value:
        case ast.Call(func=ast.Attribute(value=ast.Name("telemetry"), attr="Span"), args=names):
            return tuple(ast.literal_eval(name) for name in names)
    return None


def test_the_table_is_complete_and_true() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/telemetry.md").read_text(), re.M)
    assert {tuple(row.split(", ")) for row in rows} == executed()
    assert len(rows) == len(set(rows))
