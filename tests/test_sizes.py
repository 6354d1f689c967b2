"""No function is longer than what fits on a screen: 60 lines, but for those listed here with their reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("runtime", "actors", "api", "schema", "examples", "tests", "bench")
LINES = 60
LONGER = {
    "tests/phoenix/conformance_channels.py:handle_in": "a table: a case for each event of the conformance app",
    "bench/runtime_peers.py:ours": "a program like those of the peers beside it",
    "bench/runtime_peers.py:triotp": "a program like those of the peers beside it",
    "bench/runtime_peers.py:otpylib": "a program like those of the peers beside it",
}


def long_functions(text: str, limit: int = LINES) -> Iterator[tuple[str, int]]:
    """Name and length in lines of each function that is longer than `limit`."""
    for found in ast.walk(ast.parse(text)):
        if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
            assert found.end_lineno is not None
            length = found.end_lineno - found.lineno + 1
            if length > limit:
                yield found.name, length


def test_no_function_is_longer_than_a_screen() -> None:
    found = {
        f"{file.relative_to(ROOT)}:{name}": length
        for folder in FOLDERS
        for file in sorted((ROOT / folder).rglob("*.py"))
        if "node_modules" not in file.parts
        for name, length in long_functions(file.read_text())
    }
    assert {name: length for name, length in found.items() if name not in LONGER} == {}
    assert LONGER.keys() - found.keys() == set(), "listed, but no longer long: take them off the list"


def test_a_long_function_is_found_wherever_it_stands() -> None:
    text = "class A:\n    async def f(self):\n" + "        pass\n" * 61
    assert list(long_functions(text)) == [("f", 62)]
