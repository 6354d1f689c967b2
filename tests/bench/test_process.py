"""CPU and memory as read from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.process import Clock, memory, threads, tree


def test_a_clock_counts_what_a_process_computes() -> None:
    clock = Clock()
    before, own = clock.read([os.getpid()]), time.process_time()
    while time.process_time() - own < 0.05:
        pass
    assert clock.read([os.getpid()]) - before >= 0.05


def test_a_clock_never_runs_back_when_a_process_ends() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input(sum(range(10**6)))"], stdin=subprocess.PIPE)
    clock = Clock()
    while (used := clock.read(tree(child.pid))) == 0:
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert clock.read(tree(child.pid)) == used


def test_a_process_that_has_gone_uses_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert tree(child.pid) == set()
    assert threads(child.pid) == {}
    assert memory([child.pid]) == 0


def test_memory_is_resident_bytes() -> None:
    assert memory([os.getpid()]) > 2**20
