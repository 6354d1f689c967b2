"""A second server on one database, for tests: python -m tests.support.second_server URL USER COUNT

Records COUNT transactions of its own, and at the same time three with the keys shared-0 to shared-2. Prints "ready", then how
many of its own it recorded, and how many new_transaction events its channels got, each entry once.
"""

from __future__ import annotations

import asyncio
import sys
from uuid import UUID

from actors.ledger.writer import Recorded
from tests.support.database import fetchval
from tests.support.storage import payloads, run, storage, until


async def main(url: str, user: UUID, count: int) -> None:
    async with storage(url) as s:
        seen = await s.subscribe(f"transaction:{user}")
        print("ready", flush=True)
        recorded = 0
        for number in range(count):
            own, shared = await asyncio.gather(
                s.record(user, "3.00"),
                s.record(user, "1.00", idempotency_key=f"shared-{number % 3}", request_hash=b"same"),
            )
            assert isinstance(shared, Recorded), shared
            recorded += isinstance(own, Recorded)

        async def all_received() -> bool:
            return len(payloads(seen, "new_transaction")) >= 123

        await until(all_received)
        received = [payload["ledger_seq"] for payload in payloads(seen, "new_transaction")]
        assert received == list(range(1, await fetchval(url, "SELECT seq FROM ledger_head") + 1)), received
        print(recorded, len(received), flush=True)


if __name__ == "__main__":
    run(main(sys.argv[1], UUID(sys.argv[2]), int(sys.argv[3])))
