"""A commit that can be run: this one as it stands, and an earlier one in a git worktree with an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import BEFORE, NOW

ROOT = Path(__file__).resolve().parent.parent


class UnknownRevision(Exception):
    """There is no such commit, or it cannot be run; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit: the contestant's `name`, the `label` that people read, its files, and the Python of its environment."""

    name: str
    label: str
    root: Path
    python: str

    def has(self, module: str) -> bool:
        """Whether it has this module, by its dotted name."""
        path = self.root.joinpath(*module.split("."))
        return path.with_suffix(".py").exists() or (path / "__init__.py").exists()

    def environment(self, **changes: str) -> dict[str, str]:
        """What its programs run with: this process's environment, without what would lead them to another commit's files."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "VIRTUAL_ENV", "DATABASE_URL", "MAKEFLAGS", "NODES")
        }
        return kept | {"PYTHONUNBUFFERED": "1"} | changes


def present() -> Revision:
    """The commit that the bench itself belongs to, in the environment of `make run` where there is one."""
    own = ROOT / ".venv" / "bin" / "python"
    return Revision(
        NOW, _git("describe", "--always", "--dirty"), ROOT, str(own if own.exists() else sys.executable)
    )


@contextmanager
def earlier(name: str) -> Iterator[Revision]:
    """The commit of this name while it is entered; made in a temporary folder, and gone afterwards. Raises UnknownRevision."""
    try:
        commit = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except subprocess.CalledProcessError:
        raise UnknownRevision(f"AGAINST={name}: there is no such commit") from None
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.chmod(folder, 0o755)  # PostgreSQL runs as another user than root, from this environment
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield Revision(
                BEFORE, _git("describe", "--always", commit), tree, _install(tree, Path(folder) / "venv")
            )
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _install(tree: Path, place: Path) -> str:
    """The Python of a new environment with what this commit's own lock says that its server needs."""
    python = str(place / "bin" / "python")
    lock = tree / "requirements" / "run.txt"
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    install = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    steps = [
        [sys.executable, "-m", "venv", str(place)],
        [*install, "-q", "--require-hashes", "-r", str(lock)],
        [*install, "-q", "--no-deps", "-e", str(tree)],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
            raise UnknownRevision(f"the environment of {tree.name} was not installed: {last}")
    return python
