"""Named SQL of the change log and of listener positions. A position is a snapshot: see migration 0005."""

# A row as it was written; its amount as text, a number would be read as a float.
_COLUMNS = """id, table_name, operation,
    CASE WHEN row ? 'amount' THEN jsonb_set(row, '{amount}', to_jsonb(row ->> 'amount')) ELSE row END AS row"""

# The first $2 rows that became visible since snapshot $1, and the snapshot to ask with next time (in a row of its own,
# so that it is there when nothing changed). MATERIALIZED: by xid, whatever the planner hopes of LIMIT.
SINCE = f"""
WITH new AS MATERIALIZED (
    SELECT {_COLUMNS} FROM change_log
    WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot)
      AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
)
SELECT pg_current_snapshot()::text AS snapshot, new.*
FROM (SELECT 1) AS one LEFT JOIN new ON true ORDER BY new.id LIMIT $2
"""

# Those behind row $3 that became visible since snapshot $1 and until snapshot $2.
REST = f"""
SELECT {_COLUMNS} FROM change_log
WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot)
  AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
  AND pg_visible_in_snapshot(xid, $2::text::pg_snapshot) AND id > $3
ORDER BY id
"""

NOW = "SELECT pg_current_snapshot()::text"

POSITION = "SELECT snapshot::text FROM listener_positions WHERE node = $1"

# A position from another database server (a restored dump) says nothing here.
IS_FROM_HERE = "SELECT pg_snapshot_xmax($1::text::pg_snapshot) <= pg_snapshot_xmax(pg_current_snapshot())"

KEEP_POSITION = """
INSERT INTO listener_positions (node, snapshot, updated_at) VALUES ($1, $2::text::pg_snapshot, now())
ON CONFLICT (node) DO UPDATE SET snapshot = EXCLUDED.snapshot, updated_at = now()
"""

TRIM = "DELETE FROM change_log WHERE inserted_at < now() - interval '1 day'"
