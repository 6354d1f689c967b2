"""`bitnexus` where the runtime alone is installed: one line that says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys
sys.modules[{package!r}] = None  # as if it were not installed
from api.cli.entry import main
sys.exit(main([{command!r}]))
"""


@pytest.mark.parametrize("command", ["serve", "doctor", "ps"])
def test_a_missing_package_is_one_line(command: str) -> None:
    code = WITHOUT.format(package="asyncpg", command=command)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "asyncpg" in line and 'pip install "bitnexus[service]"' in line
