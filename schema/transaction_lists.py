"""Named SQL for the lists of transactions that the front shows."""

from __future__ import annotations

COLUMNS = "id, user_id, amount, currency, description, inserted_at"

PAGE = f"""
SELECT {COLUMNS} FROM transactions
WHERE user_id = $4 AND ($2::timestamptz IS NULL OR (inserted_at, id) < ($2, $3::uuid))
  AND ($5::text IS NULL OR currency = $5)
  AND ($6::timestamptz IS NULL OR inserted_at >= $6) AND ($7::timestamptz IS NULL OR inserted_at < $7)
ORDER BY inserted_at DESC, id DESC LIMIT $1
"""

BY_ID = f"SELECT {COLUMNS} FROM transactions WHERE id = $1"

OWNER = "SELECT user_id FROM transactions WHERE id = $1"
