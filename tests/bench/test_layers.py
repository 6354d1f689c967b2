"""Which layer a sampled stack counts for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.layers import OTHER, SENDS, layer, shares

ROOT = Path("/srv/api/checkout")  # a folder whose own path looks like a layer
SITE = f"{ROOT}/.venv/lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("innermost", "name"),
    [
        (f"write ({ROOT}/runtime/http/transport.py:1)", "HTTP: connection, parse, answer"),
        (f"execute ({SITE}/asyncpg/pool.py:1)", "asyncpg: statements to PostgreSQL and rows from it"),
        (
            f"prepare ({ROOT}/actors/ledger/server.py:1);loads (/usr/lib/json.py:2)",
            "ledger: entries, hashes, the writer's batch",
        ),
        (f"run ({SITE}/uvloop/__init__.py:1)", "the loop: epoll, reads, callbacks (uvloop, kernel)"),
        ("run (/usr/lib/runpy.py:1)", OTHER),
    ],
)
def test_the_innermost_frame_that_belongs_to_a_layer_counts(innermost: str, name: str) -> None:
    assert layer(f"main ({ROOT}/bench/none.py:1);{innermost}", ROOT) == name


def test_what_a_write_takes_is_the_sockets(tmp_path: Path) -> None:
    file = tmp_path / "runtime" / "http" / "transport.py"
    file.parent.mkdir(parents=True)
    file.write_text("self._sent += 1\nself._transport.write(data)\n")
    assert layer(f"_write ({file}:1)", tmp_path) == "HTTP: connection, parse, answer"
    assert layer(f"_write ({file}:2)", tmp_path) == SENDS


def test_shares_are_of_what_computes_and_the_largest_comes_first() -> None:
    waiting = "run (/usr/lib/threading.py:1);_worker (/usr/lib/concurrent/futures/thread.py:81) 1000\n"
    ended = "_wait (/usr/lib/subprocess.py:1);Popen._try_wait (/usr/lib/subprocess.py:2) 500\n"
    raw = [ended, f"a ({ROOT}/runtime/core/a.py:1) 1\n", waiting, f"b ({ROOT}/runtime/http/b.py:1) 3\n"]
    assert list(shares(raw, ROOT).items()) == [
        ("HTTP: connection, parse, answer", 0.75),
        ("processes: mailboxes, calls, scheduling", 0.25),
    ]
