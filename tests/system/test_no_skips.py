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


def outcome(folder: Path, suite: str, ci: str) -> int:
    """The exit code of a run of `suite`."""
    (folder / "test_suite.py").write_text(suite)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugins = ("-p", "tests.support.no_skips", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", "-q", *plugins, str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("mark", "body"),
    [("skip(reason='no')", "pass"), ("xfail", "assert False"), ("skipif(True, reason='no')", "pass")],
)
def test_ci_fails_on_a_skip(tmp_path: Path, mark: str, body: str) -> None:
    suite = SUITE.format(mark=mark, body=body)
    assert outcome(tmp_path, suite, "true") == 1
    assert outcome(tmp_path, suite, "") == 0


def test_ci_passes_without_skips(tmp_path: Path) -> None:
    assert outcome(tmp_path, "def test_runs(): pass\n", "true") == 0
