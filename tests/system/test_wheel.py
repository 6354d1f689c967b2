"""The wheel: built from this tree and installed into an empty environment somewhere else, it serves and does the main job."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.server import PATIENCE, ROOT, START_SECONDS, environment

PACKAGES = ("runtime", "actors", "api", "schema")
INSTALL_SECONDS = 240.0

pytestmark = pytest.mark.long


def shipped() -> set[str]:
    """Every file of the four packages, but for what Python makes by itself."""
    return {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def run(*command: str | Path, cwd: Path, **changes: str) -> str:
    """What the command printed; fails with it when it did not succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, so that nothing of an earlier build is in it and this tree stays clean."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, source / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "supervisor.toml"):
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", source / "dist", source, cwd=source)
    [made] = (source / "dist").glob("bitnexus-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel and what the server needs, in the locked versions."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    locked = ROOT / "requirements" / "run.txt"
    run(python, "-m", "pip", "install", "-q", "--require-hashes", "-r", locked, cwd=place)
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=place)
    run(python, "-m", "pip", "check", cwd=place)
    return place / "bin"


@pytest.fixture(scope="module")
def served(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a server from the wheel on its own embedded database, and the folder that it runs in."""
    folder = tmp_path_factory.mktemp("elsewhere")
    process = subprocess.Popen(
        [installed / "bitnexus", "serve"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines: list[str] = []
    found: list[str] = []
    known = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if (match := re.search(r"BitNexus serves on (\S+)", line)) is not None:
                found.append(match[1])
                known.set()
        known.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        known.wait(START_SECONDS)
        assert found, "the server did not start:\n" + "".join(lines[-40:])
        yield found[0], folder
    finally:
        process.terminate()
        code = process.wait(PATIENCE)
        reader.join(PATIENCE)
    assert code == 0, "".join(lines[-40:])


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.getinfo(name).file_size for name in archive.namelist()}
        assert shipped() - held.keys() == set()
        assert "runtime/py.typed" in held, (
            "type checkers take no annotation from a package without it (PEP 561)"
        )
        assert archive.read("api/supervisor.toml") == (ROOT / "supervisor.toml").read_bytes()


def test_the_pages_and_their_scripts_are_served(served: tuple[str, Path]) -> None:
    url, _folder = served
    with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
        assert client.get("/health").json()["status"] == "ok"
        for page in ("/", "/admin/", "/docs"):
            answer = client.get(page, follow_redirects=True)
            assert answer.status_code == 200, page
            for link in re.findall(r'(?:src|href)="(/?[^":#]+\.\w+)"', answer.text):
                assert client.get(str(answer.url.join(link))).status_code == 200, link
        for script in ("phoenix.mjs", "uplot.mjs", "uplot.css"):
            assert client.get(f"/vendor/{script}").status_code == 200, script


def test_the_demo_does_the_main_job(served: tuple[str, Path], installed: Path) -> None:
    url, folder = served
    printed = run(installed / "bitnexus", "demo", "--count", "2", "--url", url, cwd=folder)
    assert printed.count("new_transaction") == 2 and "verif" in printed
