"""Named SQL for tasks. A trigger raises `version` at every change."""

from __future__ import annotations

COLUMNS = "id, title, description, team_member, status, priority, due_at, version, inserted_at, updated_at"

PAGE = f"""
SELECT {COLUMNS} FROM tasks
WHERE ($2::timestamptz IS NULL OR (inserted_at, id) < ($2, $3::uuid))
  AND ($4::text IS NULL OR team_member = $4) AND ($5::text IS NULL OR status = $5)
  AND ($6::text IS NULL OR priority = $6)
ORDER BY inserted_at DESC, id DESC LIMIT $1
"""

BY_ID = f"SELECT {COLUMNS} FROM tasks WHERE id = $1"

CREATE = f"""
INSERT INTO tasks (title, description, team_member, status, priority, due_at)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING {COLUMNS}
"""

# $9: due_at is named in the change, which may set it to NULL.
UPDATE = f"""
UPDATE tasks SET title = coalesce($3, title), description = coalesce($4, description),
                 team_member = coalesce($5, team_member), status = coalesce($6, status),
                 priority = coalesce($7, priority), due_at = CASE WHEN $9 THEN $8 ELSE due_at END
WHERE id = $1 AND version = $2 RETURNING {COLUMNS}
"""

COMPLETE = f"""
UPDATE tasks SET status = 'done'
WHERE id = $1 AND ($2::integer IS NULL OR version = $2) AND status <> 'done' RETURNING {COLUMNS}
"""

DELETE = "DELETE FROM tasks WHERE id = $1 AND ($2::integer IS NULL OR version = $2) RETURNING id"
