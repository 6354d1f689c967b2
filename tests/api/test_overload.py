"""E4: too much work: what would wait too long is refused at once and not done, and operators are served all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import httpx

from tests.support.server import PATIENCE, Server, User, error_of

NEW = {"amount": "1.00", "currency": "EUR"}
MANY = 60


async def while_nothing_is_written(server: Server, users: list[User], admin: User) -> dict[str, Any]:
    """The ledger's head is locked: what hangs fills the lane, and what comes after it is told."""
    found: dict[str, Any] = {}
    locking = await asyncpg.connect(server.database)
    holding = locking.transaction()
    await holding.start()
    await locking.execute("LOCK TABLE ledger_head")
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=PATIENCE, limits=limits, trust_env=False
    ) as client:

        def post(user: User) -> Any:
            return client.post(
                "/api/v1/transactions", json=NEW, headers={"authorization": f"Bearer {user.token}"}
            )

        waiting = [asyncio.create_task(post(users[number % len(users)])) for number in range(MANY)]
        late: list[asyncio.Task[httpx.Response]] = []
        # Requests from before the server has seen that the database hangs, hang as well.
        while not any(each.done() for each in late):
            late.append(asyncio.create_task(post(users[0])))
            await asyncio.sleep(0.1)
        found["late"] = next(each for each in late if each.done()).result()
        waiting += [each for each in late if not each.done()]
        found["hang"] = sum(not each.done() for each in waiting)
        as_admin = {"authorization": f"Bearer {admin.token}"}
        for path in ("/health", "/metrics", "/api/v1/health/ready", "/admin/stats", "/admin/tree"):
            found[path] = await client.get(path, headers=as_admin)
        found["still hang"] = sum(not each.done() for each in waiting)
        await holding.rollback()
        await locking.close()
        found["waiting"] = await asyncio.gather(*waiting)
        found["again"] = await post(users[0])
    return found


def test_what_would_wait_too_long_is_refused_and_operators_are_served(server: Server, admin: User) -> None:
    users = [server.user() for _ in range(5)]
    found = asyncio.run(while_nothing_is_written(server, users, admin))
    error_of(found["late"], 503, "overloaded")
    assert int(found["late"].headers["retry-after"]) >= 1
    assert found["hang"] > 0, "it was told at once, and not when the writer went on"
    for path in ("/health", "/metrics", "/admin/stats", "/admin/tree"):
        assert found[path].status_code == 200, found[path].text
    assert found["/api/v1/health/ready"].status_code in (200, 503)
    assert found["still hang"] > 0, "they were served while the writer hung"
    assert 'bitnexus_requests_shed_total{lane="write"' in found["/metrics"].text
    recorded = sum(answer.status_code == 201 for answer in found["waiting"])
    # 503: the database gives up on a lock after 3 s.
    assert {answer.status_code for answer in found["waiting"]} <= {201, 503}
    assert found["again"].status_code == 201
    assert server.fetchval("SELECT count(*) FROM transactions") == recorded + 1


def test_one_user_does_not_take_all_of_it(server: Server, user: User, other: User) -> None:
    async def main() -> tuple[list[int], list[int]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=server.url, timeout=PATIENCE, limits=limits, trust_env=False
        ) as client:

            async def post(whose: User) -> int:
                headers = {"authorization": f"Bearer {whose.token}"}
                return (await client.post("/api/v1/transactions", json=NEW, headers=headers)).status_code

            async def greedy() -> list[int]:
                return [await post(user) for _ in range(4)]

            crowd = [asyncio.create_task(greedy()) for _ in range(150)]
            modest = [await post(other) for _ in range(5)]
            return [status for each in crowd for status in await each], modest

    # A server that stands still for a moment refuses everybody: one of three crowds has to find it going.
    for _ in range(3):
        greedy, modest = asyncio.run(main())
        assert set(greedy) <= {201, 503}
        if modest == [201] * 5:
            return
    raise AssertionError(modest)
