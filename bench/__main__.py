"""`python -m bench` (`make bench`): runs benchmarks and prints one table.

Progress goes to standard error and is erased at the end; the table goes to standard output. The exit code is 1 if a row of this
commit is missing or a benchmark failed, 2 for wrong arguments.
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
from bench.benchmarks import BENCHMARKS, Benchmark
from bench.run import Run


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Parses the command line; ends the program if it is wrong."""
    names = [benchmark.name for benchmark in BENCHMARKS]
    described = "\n".join(f"  {benchmark.name:10} {benchmark.summary}" for benchmark in BENCHMARKS)
    parser = argparse.ArgumentParser(
        "bench", epilog=f"benchmarks:\n{described}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="names of benchmarks, separated by commas; `all` for all")
    parser.add_argument("--against", default="", help="an earlier commit, measured in the same rounds")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds; figures are medians (5)")
    parser.add_argument("--sockets", type=int, default=10_000, help="number of sockets in `crowd` (10,000)")
    parser.add_argument("--entries", type=int, default=100_000, help="entries of the large ledger (100,000)")
    parser.add_argument(
        "--ledgers", type=Path, help="directory that keeps the filled ledgers for another run"
    )
    parser.add_argument("--plots", type=Path, help="directory for plots as PNG")
    parser.add_argument("--json", type=Path, help="file for all values of all rounds")
    found = parser.parse_args(given)
    wanted = [name for name in found.only.split(",") if name]
    if unknown := [name for name in wanted if name not in (*names, "all")]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(names)}")
    if found.rounds < 1:
        parser.error("--rounds: at least 1")
    found.benchmarks = [
        benchmark
        for benchmark in BENCHMARKS
        if benchmark.name in wanted or "all" in wanted or (not wanted and benchmark.by_default)
    ]
    return found


def measure(run: Run, benchmarks: Sequence[Benchmark], progress: Progress) -> None:
    """Runs one benchmark after the other; one that fails does not stop the others, Ctrl-C and SIGTERM do."""
    bar = progress.add_task("", total=len(benchmarks))
    for benchmark in benchmarks:
        run.step = lambda text, name=benchmark.name: progress.update(bar, description=f"{name}: {text}")
        try:
            benchmark.measure(run)
        except (KeyboardInterrupt, SystemExit):
            run.broken.append(f"{benchmark.name}: interrupted; the benchmarks after it were not run")
            return
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            run.broken.append(f"{benchmark.name}: {error!r} ({Path(place.filename).name}:{place.lineno})")
        progress.advance(bar)


def main(given: Sequence[str]) -> int:
    """The command."""
    options = arguments(given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # context managers stop servers and remove files
    socket_load.raise_file_limit()
    began = time.monotonic()
    columns = (
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    run = Run([revision.present()], options.rounds, options.sockets, options.entries, options.ledgers)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        if options.against:
            preparing = progress.add_task(f"a worktree and an environment of {options.against}", total=None)
            try:
                run.revisions.append(stack.enter_context(revision.earlier(options.against)))
            except revision.UnknownRevision as error:
                progress.stop()
                print(f"bench: {error}", file=sys.stderr)
                return 2
            progress.remove_task(preparing)
        measure(run, options.benchmarks, progress)
    minutes = (time.monotonic() - began) / 60
    print(
        f"BitNexus {run.revisions[0].label}, {time.strftime('%Y-%m-%d')}, {platform.machine()}, Python"
        f" {platform.python_version()}; medians of {run.rounds} rounds; {minutes:.0f} min\n"
    )
    print("\n".join(table.lines(run.figures, run.before)))
    if options.json:
        options.json.write_text(json.dumps(run.figures.dump(), indent=1) + "\n")
    if options.plots:
        from bench import plots

        plots.draw(run.figures, run.before, options.plots)
    for reason in run.broken:
        print(f"bench: broken: {reason}", file=sys.stderr)
    return 1 if run.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
