"""The entry point of the command `bitnexus`: without the service's packages, one line says what to install."""

from __future__ import annotations

import sys
from collections.abc import Sequence

OURS = ("api", "actors", "runtime", "schema")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line of `api.cli.main`; returns 1 if a package of the extra `service` is missing."""
    try:
        from api.cli.main import main as run
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package in OURS:
            raise
        print(
            f'bitnexus: the package {package} is missing; the service needs: pip install "bitnexus[service]"',
            file=sys.stderr,
        )
        return 1
    return run(arguments)
