"""A real Go service for the tests: compiled once by the Go that pip installed, run as a process, told how to behave."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import httpx

HERE = Path(__file__).parent
BIN = HERE / "bin"
SERVICE, READER, CLIENT = ".", "./reader", "./client"  # packages


def build(package: str = SERVICE) -> Path:
    """A compiled program. Compiles when a source is newer; several test processes may ask at once."""
    program = BIN / (Path(package).name or "service")
    BIN.mkdir(exist_ok=True)
    with (BIN / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(source.stat().st_mtime for source in [HERE / "go.mod", *(HERE / package).glob("*.go")])
        if not program.exists() or program.stat().st_mtime < newest:
            _compile(package, program)
    return program


def _compile(package: str, program: Path) -> None:
    go = Path(sys.executable).parent / "go"
    done = subprocess.run(
        [str(go), "build", "-trimpath", "-o", str(program), package],
        cwd=HERE,
        env={
            **os.environ,
            "GOCACHE": str(BIN / "cache"),
            "GOPATH": str(BIN / "path"),
            "GOFLAGS": "",
            "GOTOOLCHAIN": "local",
            "GOPROXY": "off",
            "GOTELEMETRY": "off",
            "CGO_ENABLED": "0",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"go build failed:\n{done.stdout}{done.stderr}"


class GoService:
    """A running service; a context manager that ends it. `listen` keeps the address over a restart."""

    def __init__(
        self,
        secret: str = "",
        jwks_url: str = "",
        issuer: str = "bitnexus",
        audience: str = "bitnexus",
        listen: str = "127.0.0.1:0",
    ) -> None:
        self._environment = {"SECRET": secret, "JWKS_URL": jwks_url, "ISSUER": issuer, "AUDIENCE": audience}
        self._listen = listen
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Starts the process, at the address it had before if it had one."""
        self._process = subprocess.Popen(
            [str(build())],
            env={**self._environment, "LISTEN": self._listen},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("listening on "), f"the Go service did not start: {line!r}"
        self._listen = line.split()[-1]

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self._listen}"

    def tell(self, mode: str, status: int = 500, ms: int = 1000, times: int = 0) -> None:
        """How the next calls go: ok, hang, fail (with `status`), slow (by `ms`), garbage, die.

        `times` 0 is until told otherwise.
        """
        body = {"mode": mode, "status": status, "ms": ms, "times": times}
        httpx.post(f"{self.url}/control", json=body, trust_env=False, timeout=60).raise_for_status()

    def calls(self, path: str) -> int:
        """How many requests for this path arrived."""
        counts: dict[str, int] = httpx.get(f"{self.url}/calls", trust_env=False, timeout=60).json()
        return counts.get(path, 0)

    def kill(self) -> None:
        """Ends the process the hard way; `start` brings it back."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> GoService:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
