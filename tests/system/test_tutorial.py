"""The tutorial, word for word: its files in an empty folder, the wheel beside it, its commands, what it says they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.server import ROOT
from tests.system.test_wheel import wheel

__all__ = ["wheel"]

BLOCK = re.compile(r'^```(?:python|text) title="([^"]+)"\n(.*?)^```$', re.M | re.S)
pytestmark = pytest.mark.long


@pytest.fixture
def folder(wheel: Path, tmp_path: Path) -> Path:
    """The folder with the tutorial's files; the wheel is unpacked beside it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "packages")
    place = tmp_path / "chat"
    place.mkdir()
    for title, content in blocks().items():
        if title.endswith(".py"):
            (place / title).write_text(content)
    return place


def blocks() -> dict[str, str]:
    return dict(BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text()))


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder.parent / "packages")}


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_server_chats_as_the_page_says(folder: Path) -> None:
    said = blocks()
    server = subprocess.Popen(
        [sys.executable, "chat.py", "0"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip().removeprefix("a chat at ")
        assert run(folder, "client.py", url, "ann", "hello") == said["client.py prints"]
        second = run(folder, "client.py", url, "bob", "hi")
        # Ann's leaving and Bob's coming are two events of one moment.
        assert second.replace("here: ann bob", "here: bob") == said["client.py prints, the second time"]
    finally:
        server.kill()
        server.wait()


def test_the_test_of_the_page_passes_in_many_interleavings(folder: Path) -> None:
    (folder / "pytest.ini").write_text("[pytest]\n")
    plugin = ("-p", "runtime.testing.pytest_plugin", "-p", "no:cacheprovider")
    shown = run(folder, "-m", "pytest", "-q", *plugin, "--interleavings", "50")
    assert "150 passed" in shown


def test_the_wheel_offers_the_plugin_to_pytest(folder: Path) -> None:
    [names] = (folder.parent / "packages").glob("bitnexus-*.dist-info/entry_points.txt")
    assert "[pytest11]\nruntime.testing.pytest_plugin = runtime.testing.pytest_plugin" in names.read_text()
