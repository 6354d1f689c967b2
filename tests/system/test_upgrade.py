"""A rolling upgrade under load, small (`python -m tests.upgrade` is the whole), and its judge, which must find what is wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.server import start
from tests.upgrade.__main__ import BACK_SECONDS, Course, accounts_of, judge, upgrade
from tests.upgrade.requests import Account
from tests.upgrade.sockets import Tab


def test_clients_see_nothing_of_an_upgrade(module_database: str, tmp_path: Path) -> None:
    """No failed request, everybody back and caught up. With patience for a machine that is busy."""
    accounts = asyncio.run(accounts_of(module_database, 10))
    server = start(module_database, ("--nodes", "2"), DATA_DIR=str(tmp_path))
    try:
        course = asyncio.run(upgrade(server, tmp_path, accounts, rate=40, sockets=60, patience=3.0))
    finally:
        server.stop()
    assert course.sound(6 * BACK_SECONDS), "\n".join([*course.lines(), *server.lines[-40:]])
    assert course.replaced == 2 and course.requests > 100 and course.events > 60


def test_the_judge_finds_what_a_client_missed_got_twice_or_out_of_order() -> None:
    async def judged(*told: int) -> list[str]:
        tab = Tab("http://127.0.0.1:1", Account("a", "", {1: 0.0, 2: 0.0, 3: 0.0}))
        tab.joined.set()
        tab.told = [(seq, 0.1) for seq in told]
        course = Course()
        judge(course, [tab], [])
        return course.wrong

    assert asyncio.run(judged(1, 2, 3)) == []
    assert asyncio.run(judged(1, 3)) == ["a socket missed [2] of 3 events, got 0 twice"]
    assert asyncio.run(judged(1, 2, 2, 3)) == ["a socket missed [] of 3 events, got 1 twice"]
    assert asyncio.run(judged(2, 1, 3)) == ["a socket missed [] of 3 events, got 0 twice, not in order"]


def test_a_request_that_failed_and_a_socket_that_was_late_are_not_sound() -> None:
    assert Course(sockets=1, comebacks=[0.1]).sound(10)
    assert not Course(sockets=1, comebacks=[11.0]).sound(10)
    assert not Course(sockets=1).sound(10)  # nobody was sent away: nothing was tried
    failed = Course(sockets=1, comebacks=[0.1])
    failed.failures["EOFError"] += 1
    assert not failed.sound(10)
