"""Named SQL for notifications."""

from __future__ import annotations

COLUMNS = "id, user_id, title, body, read_at, inserted_at"

CREATE = f"INSERT INTO notifications (user_id, title, body) VALUES ($1, $2, $3) RETURNING {COLUMNS}"

PAGE = f"""
SELECT {COLUMNS} FROM notifications
WHERE user_id = $4 AND ($2::timestamptz IS NULL OR (inserted_at, id) < ($2, $3::uuid))
  AND ($5::boolean IS NULL OR (read_at IS NULL) = $5)
ORDER BY inserted_at DESC, id DESC LIMIT $1
"""

UNREAD = "SELECT count(*) FROM notifications WHERE user_id = $1 AND read_at IS NULL"

READ = f"""
UPDATE notifications SET read_at = coalesce(read_at, now())
WHERE id = $1 AND (user_id = $2 OR $3) RETURNING {COLUMNS}
"""

READ_ALL = """
WITH done AS (UPDATE notifications SET read_at = now() WHERE user_id = $1 AND read_at IS NULL RETURNING 1)
SELECT count(*) FROM done
"""
