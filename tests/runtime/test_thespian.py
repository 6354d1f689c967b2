"""Thespian's own test suite, from its wheel, on our base: all that simpleSystemBase passes, ours passes.

The suite runs in a pytest of its own, once with each base, side by side (it sleeps more than it computes). What
simpleSystemBase skips stands in thespian_skipped.txt; ours skips exactly that. A test that failed while the machine was
busy (the suite has windows of wall time) is run once more, alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = (Path(__file__).parents[1] / "thespian_skipped.txt").read_text().split("\n")[:-1]
SPREAD = ("-n", "6", "--maxschedchunk=1")
PASSED = 421  # by simpleSystemBase of Thespian 4.0.1


def suite(folder: Path, name: str, *options: str) -> subprocess.Popen[bytes]:
    """Starts the suite; its outcome will be in `folder/name.xml`."""
    command = [sys.executable, "-m", "pytest", "--pyargs", "thespian.test", "-q", "-p", "no:cacheprovider"]
    command += ["-k", "not multiproc", "--timeout=300", f"--junitxml={folder / name}.xml", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def outcomes(folder: Path, name: str) -> dict[str, str]:
    """Test -> passed, skipped or failed."""
    found: dict[str, str] = {}
    for case in ElementTree.parse(folder / f"{name}.xml").iter("testcase"):
        test = f"{case.get('classname')}::{case.get('name')}"
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        if found.get(test) != "failed":
            found[test] = outcome
    return found


def retried(folder: Path, name: str, found: dict[str, str], *options: str) -> dict[str, str]:
    """The failed ones once more, one after the other."""
    failed = [test for test, outcome in found.items() if outcome == "failed"]
    if not failed:
        return found
    names = " or ".join(sorted({test.rsplit("::", 1)[1].partition("[")[0] for test in failed}))
    again = f"{name}-again"
    suite(folder, again, *options, "-k", f"({names}) and not multiproc").wait()
    second = outcomes(folder, again)
    return {**found, **{test: second.get(test, "failed") for test in failed}}


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_thespians_own_suite_passes_on_our_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = ("-p", "tests.support.thespian_plugin")
    runs = [suite(tmp_path, "ours", *SPREAD, *plugin), suite(tmp_path, "simple", *SPREAD)]
    for run in runs:
        run.wait()
    ours = retried(tmp_path, "ours", outcomes(tmp_path, "ours"), *plugin)
    simple = retried(tmp_path, "simple", outcomes(tmp_path, "simple"))
    with capsys.disabled():
        for name, found in (("simpleSystemBase", simple), ("runtime", ours)):
            counts = {kind: list(found.values()).count(kind) for kind in ("passed", "failed", "skipped")}
            print(f"\nThespian's suite on {name}: {counts}", end="")
    assert [test for test, outcome in ours.items() if outcome == "failed"] == []
    assert sorted(test for test, outcome in ours.items() if outcome == "skipped") == SKIPPED
    assert {t for t, outcome in simple.items() if outcome == "passed"} <= {
        t for t, outcome in ours.items() if outcome == "passed"
    }
    assert list(ours.values()).count("passed") == PASSED
