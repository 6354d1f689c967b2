"""The plans that PostgreSQL keeps for statements whose cost must not depend on how many rows a user has."""

from __future__ import annotations

from actors.storage import repo
from schema import ledger, transaction_lists
from tests.support.database import add_user
from tests.support.storage import run, storage

OTHERS = 300  # users, of ten transactions each
FILL = f"""
SET bitnexus.batch = 'on';
INSERT INTO users (name, email) SELECT 'user ' || n, n || '@many.example' FROM generate_series(1, {OTHERS}) n;
INSERT INTO transactions (user_id, amount, currency, inserted_at)
SELECT u.id, 1, 'EUR', now() - n * interval '1 minute' FROM users u, generate_series(1, 10) n;
INSERT INTO transactions (user_id, amount, currency, inserted_at)
SELECT u.id, 1, 'EUR', now() - n * interval '1 second' FROM users u, generate_series(1, 3000) n WHERE u.email !~ '@many.example';
ANALYZE users, transactions;
"""
TIMES = "timestamptz, timestamptz"
PAGES = {
    "list": (transaction_lists.PAGE, f"int, timestamptz, uuid, uuid, text, {TIMES}", "51, NULL, NULL, '{}', NULL, NULL, NULL"),
    "history": (ledger.HISTORY, "uuid, timestamptz, uuid, int", "'{}', NULL, NULL, 51"),
}  # fmt: skip


def test_a_page_of_a_user_with_many_rows_reads_no_more_than_the_page(database: str) -> None:
    async def main() -> None:
        async with storage(database, listen=False):
            user = await add_user(database)
            async with repo.connection() as connection:
                await connection.execute(FILL)
                await connection.execute("SET plan_cache_mode = force_generic_plan")
                for name, (statement, types, values) in PAGES.items():
                    await connection.execute(f"PREPARE {name} ({types}) AS {statement}")
                    explained = await connection.fetch(f"EXPLAIN EXECUTE {name} ({values.format(user)})")
                    plan = "\n".join(line for (line,) in explained)
                    assert "Index Scan using transactions_page" in plan and "Sort" not in plan, plan

    run(main())
