"""The table of the peers' suites in docs/runtime.md: its tests are there, and nothing is left out without a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def rows() -> list[list[str]]:
    text = (ROOT / "docs" / "runtime.md").read_text().partition("## The peers' suites")[2]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_tests_of_a_row_exist(row: list[str]) -> None:
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`(test_\w+)`", row[1])
    folders = re.findall(r"`(tests/\w+)`", row[1])
    assert [name for name in named if name not in files] == []
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
    assert named or folders or "traces" in row[1], "a suite that no test covers"
    assert row[2].rstrip(".").lower() not in ("missing", "none", "not here"), "left out without a reason"


def test_the_table_is_there() -> None:
    assert len(rows()) >= 16 and all(len(row) == 3 for row in rows())
