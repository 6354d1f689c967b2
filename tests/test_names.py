"""One word, one thing: no two classes have one name, but for those listed here with their reason."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("runtime", "actors", "api", "schema")
SEVERAL = {
    "Connection": "of HTTP, of two nodes, and asyncpg's subclass: each is what its protocol calls a connection",
    "Endpoint": "Phoenix's, and the process of BitNexus that serves it",
    "Task": "Elixir's, and the task of a team that the REST API keeps",
}


def classes(root: Path) -> dict[str, set[str]]:
    """The public classes at the top of each module, and where they stand."""
    found: dict[str, set[str]] = defaultdict(set)
    for floor in FLOORS:
        for file in sorted((root / floor).rglob("*.py")):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].add(str(file.relative_to(root)))
    return found


def test_a_class_has_its_name_alone() -> None:
    several = {name: places for name, places in classes(ROOT).items() if len(places) > 1}
    assert {name: places for name, places in several.items() if name not in SEVERAL} == {}
    assert SEVERAL.keys() - several.keys() == set(), "listed, but alone by now: take it off the list"


def test_a_second_class_of_a_name_is_found(tmp_path: Path) -> None:
    for floor in FLOORS[:2]:
        (tmp_path / floor).mkdir()
        (tmp_path / floor / "one.py").write_text("class Reply: ...\nclass _Private: ...\n")
    assert classes(tmp_path) == {"Reply": {"runtime/one.py", "actors/one.py"}}
