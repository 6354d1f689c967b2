"""`python -m bench [NAME...]`: runs the questions of this folder (all, or the named ones) and prints one table.

Each runs in a process of its own, so that one does not warm or burden the next. Exit code 1 when one of them breaks.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

from bench.row import Row, figure

HERE = Path(__file__).parent
ONE = "--one"


def questions() -> list[str]:
    """The files that answer a question."""
    return sorted(
        file.stem
        for file in HERE.glob("*.py")
        if not file.stem.startswith("_") and "\ndef run() -> list[Row]:" in file.read_text()
    )


def ask(name: str) -> list[Row] | None:
    """The rows of one question; None when it broke (it has said why on standard error)."""
    command = [sys.executable, "-m", "bench", ONE, name]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        return None
    return [Row(**each) for each in json.loads(done.stdout.strip().splitlines()[-1])]


def show(table: list[tuple[str, str, str, str, str]]) -> None:
    """Prints rows in columns."""
    head = ("what", "ours", "unit", "peers in this run", "mark to beat")
    widths = [max(len(row[column]) for row in [head, *table]) for column in range(len(head))]
    for row in [head, tuple("-" * width for width in widths), *table]:
        cells = [
            text.rjust(width) if column == 1 else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def line(row: Row) -> tuple[str, str, str, str, str]:
    """A row as text."""
    peers = ", ".join(f"{name} {figure(value)}" for name, value in row.peers.items())
    mark = ""
    if row.mark is not None:
        beaten = row.ours >= row.mark if row.more_is_better else row.ours <= row.mark
        mark = f"{figure(row.mark)} ({row.mark_of}{'' if beaten else ': NOT beaten'})"
    return row.what + (f" [{row.note}]" if row.note else ""), figure(row.ours), row.unit, peers, mark


def main(arguments: list[str]) -> int:
    """The command."""
    if arguments[:1] == [ONE]:
        rows = importlib.import_module(f"bench.{arguments[1]}").run()
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return 0
    known = questions()
    if unknown := [name for name in arguments if name not in known]:
        print(f"bench: no question {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 1
    print(
        f"BitNexus benchmarks on {platform.machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}\n"
    )
    table: list[tuple[str, str, str, str, str]] = []
    broken: list[str] = []
    for name in arguments or known:
        started = time.perf_counter()
        rows = ask(name)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
        if rows is None:
            broken.append(name)
        else:
            table += map(line, rows)
    show(table)
    if broken:
        print(f"\nbench: broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
