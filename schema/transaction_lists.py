"""Named SQL for the lists of transactions that the front shows."""

from __future__ import annotations

COLUMNS = "t.id, t.user_id, t.amount, t.currency, t.description, t.inserted_at"

# First the page, then the entries of its rows alone: of a small ledger the planner would join the whole.
PAGE = f"""
SELECT {COLUMNS}, e.seq AS ledger_seq
FROM (
    SELECT {COLUMNS} FROM transactions t
    WHERE t.user_id = $4 AND ($2::timestamptz IS NULL OR (t.inserted_at, t.id) < ($2, $3::uuid))
      AND ($5::text IS NULL OR t.currency = $5)
      AND ($6::timestamptz IS NULL OR t.inserted_at >= $6) AND ($7::timestamptz IS NULL OR t.inserted_at < $7)
    ORDER BY t.inserted_at DESC, t.id DESC LIMIT $1
) AS t
LEFT JOIN LATERAL (SELECT e.seq FROM ledger_entries e WHERE e.transaction_id = t.id OFFSET 0) AS e ON true
ORDER BY t.inserted_at DESC, t.id DESC
"""

BY_ID = f"SELECT {COLUMNS} FROM transactions t WHERE t.id = $1"

OWNER = "SELECT user_id FROM transactions WHERE id = $1"
