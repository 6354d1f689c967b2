"""Imports point down only: api -> actors -> schema, and all -> runtime, which knows none of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "runtime": {"runtime"},
    "schema": {"schema"},
    "actors": {"actors", "schema", "runtime"},
    "api": {"api", "actors", "schema", "runtime"},
}
OURS = {*MAY_IMPORT, "tests", "bench"}


def imported(file: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it, relative imports resolved."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        match node:
            case ast.Import(names=names):
                found |= {name.name.split(".")[0] for name in names}
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module.split(".")[0])
            case ast.ImportFrom(level=level) if level:
                place = file.relative_to(ROOT).parts[:-level]
                found.add(place[0] if place else str(node.module))
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_down_only(package: str) -> None:
    wrong = {
        str(file.relative_to(ROOT)): upward
        for file in sorted((ROOT / package).rglob("*.py"))
        if (upward := (imported(file) & OURS) - MAY_IMPORT[package])
    }
    assert wrong == {}


def test_the_rule_sees_imports_inside_functions(tmp_path: Path) -> None:
    file = tmp_path / "piece.py"
    file.write_text("import actors.storage.repo as r\ndef f():\n    from api.app import App")
    assert imported(file) == {"actors", "api"}
