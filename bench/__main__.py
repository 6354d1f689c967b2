"""`python -m bench` (`make bench`): measures what bench/questions asks, and prints one table.

Progress goes to standard error and is gone at the end; the table goes to standard output. Exit code 1 when a row of this commit
is missing or a question broke, 2 when the command was given wrongly.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from bench import revision, socket_load, table
from bench.questions import QUESTIONS, Question
from bench.run import Run


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """What the command line says. Ends the program where that is wrong."""
    names = [question.name for question in QUESTIONS]
    described = "\n".join(f"  {question.name:10} {question.summary}" for question in QUESTIONS)
    parser = argparse.ArgumentParser(
        "bench", epilog=f"questions:\n{described}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="questions, with commas between them; `all` for all")
    parser.add_argument("--against", default="", help="an earlier commit to measure in the same rounds")
    parser.add_argument("--rounds", type=int, default=5, help="whose medians are the figures (5)")
    parser.add_argument("--sockets", type=int, default=10_000, help="of the crowd (10,000)")
    parser.add_argument("--entries", type=int, default=100_000, help="of the large ledger (100,000)")
    parser.add_argument("--ledgers", type=Path, help="a folder that keeps the filled ledgers for another run")
    parser.add_argument("--plots", type=Path, help="a folder for plots as PNG")
    parser.add_argument("--json", type=Path, help="a file for all values of all rounds")
    found = parser.parse_args(given)
    asked = [name for name in found.only.split(",") if name]
    if unknown := [name for name in asked if name not in (*names, "all")]:
        parser.error(f"no question {', '.join(unknown)}; there are: {', '.join(names)}")
    if found.rounds < 1:
        parser.error("--rounds: at least 1")
    found.questions = [
        question
        for question in QUESTIONS
        if question.name in asked or "all" in asked or (not asked and question.by_default)
    ]
    return found


def measure(run: Run, questions: Sequence[Question], progress: Progress) -> None:
    """Asks one question after the other; one that breaks does not stop the others, Ctrl-C and SIGTERM do."""
    bar = progress.add_task("", total=len(questions))
    for question in questions:
        run.step = lambda text, name=question.name: progress.update(bar, description=f"{name}: {text}")
        try:
            question.ask(run)
        except (KeyboardInterrupt, SystemExit):
            run.broken.append(f"{question.name}: interrupted, and what comes after it was not asked")
            return
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            run.broken.append(f"{question.name}: {error!r} ({Path(place.filename).name}:{place.lineno})")
        progress.advance(bar)


def main(given: Sequence[str]) -> int:
    """The command."""
    asked = arguments(given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started and made is ended and removed
    socket_load.raise_file_limit()
    began = time.monotonic()
    columns = (
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    run = Run([revision.present()], asked.rounds, asked.sockets, asked.entries, asked.ledgers)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        if asked.against:
            preparing = progress.add_task(f"a worktree and an environment of {asked.against}", total=None)
            try:
                run.revisions.append(stack.enter_context(revision.earlier(asked.against)))
            except revision.UnknownRevision as error:
                progress.stop()
                print(f"bench: {error}", file=sys.stderr)
                return 2
            progress.remove_task(preparing)
        measure(run, asked.questions, progress)
    minutes = (time.monotonic() - began) / 60
    print(
        f"BitNexus {run.revisions[0].label}, {time.strftime('%Y-%m-%d')}, {platform.machine()}, Python"
        f" {platform.python_version()}; medians of {run.rounds} rounds; {minutes:.0f} min\n"
    )
    print("\n".join(table.lines(run.figures, run.before)))
    if asked.json:
        asked.json.write_text(json.dumps(run.figures.dump(), indent=1) + "\n")
    if asked.plots:
        from bench import plots

        plots.draw(run.figures, run.before, asked.plots)
    for reason in run.broken:
        print(f"bench: broken: {reason}", file=sys.stderr)
    return 1 if run.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
