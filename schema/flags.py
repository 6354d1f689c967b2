"""Named SQL for feature flags."""

from __future__ import annotations

COLUMNS = "name, percent, description, updated_at"

ALL = f"SELECT {COLUMNS} FROM flags ORDER BY name"

PUT = f"""
INSERT INTO flags (name, percent, description) VALUES ($1, $2, coalesce($3, ''))
ON CONFLICT (name) DO UPDATE SET percent = excluded.percent, description = coalesce($3, flags.description)
RETURNING {COLUMNS}
"""

DELETE = "DELETE FROM flags WHERE name = $1 RETURNING name"
