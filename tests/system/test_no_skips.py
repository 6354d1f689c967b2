"""A skipped test fails the run in CI, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
import pytest

def test_runs():
    pass

@pytest.mark.{mark}
def test_does_not():
    {body}
"""


def outcome(folder: Path, mark: str, body: str, ci: str) -> int:
    """The exit code of a run of two tests."""
    (folder / "test_suite.py").write_text(SUITE.format(mark=mark, body=body))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.support.no_skips",
        "-p",
        "no:cacheprovider",
        str(folder),
    ]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("mark", "body"),
    [("skip(reason='no')", "pass"), ("xfail", "assert False"), ("skipif(True, reason='no')", "pass")],
)
def test_ci_fails_on_a_skip(tmp_path: Path, mark: str, body: str) -> None:
    assert outcome(tmp_path, mark, body, "true") == 1
    assert outcome(tmp_path, mark, body, "") == 0


def test_ci_passes_without_skips(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text("def test_runs(): pass\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": "true", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.support.no_skips",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    ]
    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode == 0
