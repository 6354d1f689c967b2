"""Named SQL of transactions and their ledger."""

TRANSACTION_COLUMNS = (
    "t.id, t.user_id, t.amount, t.currency, t.description, t.inserted_at, t.idempotency_key, t.request_hash"
)

HEAD = "SELECT seq, hash, root_hash, frontier FROM ledger_head"

HEAD_SEQ = "SELECT seq FROM ledger_head"

HEAD_AND_PENDING = "SELECT seq, EXISTS (SELECT FROM ledger_pending) AS pending FROM ledger_head"

# It waits for a lock for less time than a batch does: who sends one meanwhile waits for both, and gives up after five seconds.
PROBE_WRITE = "SELECT probe_write() FROM set_config('lock_timeout', '1000', true)"

# Columns whose values hold no comma come as one text: asyncpg looks twice at each element of an array.
RECORD = """
SELECT * FROM record_transactions(
    $1, $2, $3, $4, string_to_array($5, ',')::uuid[], string_to_array($6, ',')::uuid[], string_to_array($7, ','),
    string_to_array($8, ','), $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
"""

# What RECORD does where nothing is in its way, in one statement: as many rows are inserted as are given, or none and RECORD says
# why. Hashes of 32 bytes come one after another: $3 is the chain, from the head's hash on, $12 the leaves, $14 the frontier. A
# condition is looked up by the index, row by row, whatever the planner thinks of a table that just grew.
RECORD_MANY = """
WITH head AS (
    UPDATE ledger_head SET seq = $2 + length($12::bytea) / 32, hash = substr($3::bytea, length($3::bytea) - 31), root_hash = $13,
           frontier = ARRAY(SELECT substr($14::bytea, at, 32) FROM generate_series(1, length($14::bytea), 32) AS at),
           updated_at = now()
    WHERE seq = $2 AND hash = substr($3::bytea, 1, 32)
      AND (cardinality($10::text[]) = 0 OR NOT EXISTS (
          SELECT FROM unnest(string_to_array($6, ',')::uuid[], $10::text[]) AS k (user_id, key), LATERAL (
              SELECT FROM transactions t WHERE t.user_id = k.user_id AND t.idempotency_key = k.key OFFSET 0) AS taken))
    RETURNING listeners <> '{}' AND listeners <@ string_to_array($1, ' ') OR pg_notify(
        'bitnexus_ledger', split_part($1, ' ', 1) || ':' || $2 + length($12::bytea) / 32)::text IS NOT NULL AS notified
), entry AS (
    INSERT INTO ledger_entries (seq, transaction_id, leaf_hash, prev_hash, hash)
    SELECT $2 + e.n, e.transaction_id, substr($12, 32 * e.n::int - 31, 32), substr($3, 32 * e.n::int - 31, 32),
           substr($3, 32 * e.n::int + 1, 32)
    FROM head, unnest(string_to_array($5, ',')::uuid[]) WITH ORDINALITY AS e (transaction_id, n)
), node AS (
    INSERT INTO ledger_nodes (level, position, hash)
    SELECT s.level, s.position, substr($17::bytea, 32 * s.n::int - 31, 32)
    FROM head, unnest(string_to_array($15, ',')::smallint[], string_to_array($16, ',')::bigint[]) WITH ORDINALITY
        AS s (level, position, n)
)
INSERT INTO transactions (id, user_id, amount, currency, description, idempotency_key, request_hash, inserted_at)
SELECT b.*, $4
FROM head, unnest(string_to_array($5, ',')::uuid[], string_to_array($6, ',')::uuid[], string_to_array($7, ',')::numeric[],
                  string_to_array($8, ','), $9::text[], $10::text[], $11::bytea[]) AS b
"""

_RECORD_ONE = """
WITH head AS (
    UPDATE ledger_head SET seq = $2 + 1, hash = $13, root_hash = $14,
                           frontier = array_append(frontier[1:$15], $16), updated_at = now()
    WHERE seq = $2 AND hash = $3 {condition}
    RETURNING listeners
), entry AS (
    INSERT INTO ledger_entries (seq, transaction_id, leaf_hash, prev_hash, hash)
    SELECT $2 + 1, $5, $12, $3, $13 FROM head
)
INSERT INTO transactions (id, user_id, amount, currency, description, idempotency_key, request_hash, inserted_at)
SELECT $5, $6, $7::text::numeric, $8, $9, $10, $11, $4 FROM head
WHERE listeners <> '{{}}' AND listeners <@ string_to_array($1, ' ')
   OR pg_notify('bitnexus_ledger', split_part($1, ' ', 1) || ':' || $2 + 1)::text IS NOT NULL  -- it always is
"""

# A batch of one whose entry completes no subtree that is kept: one row is inserted, or none and RECORD says why. Of the tree's
# frontier an entry leaves the first $15 hashes as they are and puts one, $16, in the place of the others.
RECORD_ONE = _RECORD_ONE.format(condition="")

# The same, unless the idempotency key is taken.
RECORD_ONE_KEYED = _RECORD_ONE.format(
    condition="AND NOT EXISTS (SELECT FROM transactions WHERE user_id = $6 AND idempotency_key = $10)"
)

# Of the session that records: its rows are no foreign ones, which a trigger has to queue; and planning RECORD_ONE anew, for which
# the planner might decide, costs as much as running it.
RECORDER = "SET bitnexus.batch = 'on'; SET plan_cache_mode = 'force_generic_plan'"

# From now on server $1 gets a NOTIFY of each batch of another server.
LISTEN = "SELECT listen_to_ledger($1)"

# The same of server $1, which listens already, if one listens no more: for it each batch would take the lock of a NOTIFY.
FORGET_GONE = """
SELECT listen_to_ledger($1) FROM ledger_head
WHERE EXISTS (SELECT FROM unnest(listeners) AS l (node) WHERE NOT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'bitnexus listener ' || l.node))
"""

RECORD_PENDING = "SELECT record_pending_transactions($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12)"

# Of these user ids, those that exist.
USERS = "SELECT id FROM users WHERE id = ANY ($1::uuid[])"

# Of these user ids, those whose row another session has locked for itself.
LOCKED_USERS = """
WITH free AS MATERIALIZED (SELECT id FROM users WHERE id = ANY ($1::uuid[]) FOR KEY SHARE SKIP LOCKED)
SELECT id FROM users WHERE id = ANY ($1::uuid[]) AND id NOT IN (SELECT id FROM free)
"""

# Waits for another session that has taken the idempotency key. It is rolled back.
TRY_ROW = """
INSERT INTO transactions (id, user_id, amount, currency, idempotency_key, inserted_at) VALUES ($1, $2, $3, $4, $5, $6)
"""

# What an idempotency key already stands for. seq and hash are null while the row `waits` for its ledger entry.
# With synchronous replication this waits for the standby: a row whose own COMMIT was not waited for to its end is visible before
# the standby has it, and a repeated request would be answered as if it were durable.
REPLAYS = f"""
SELECT {TRANSACTION_COLUMNS}, e.seq, e.hash,
       e.seq IS NULL AND EXISTS (SELECT FROM ledger_pending p WHERE p.transaction_id = t.id) AS waits, (
    SELECT CASE WHEN current_setting('synchronous_standby_names') <> ''
           THEN pg_logical_emit_message(true, 'bitnexus', '') END) AS confirmed
FROM unnest($1::uuid[], $2::text[]) AS k (user_id, key)
JOIN transactions t ON t.user_id = k.user_id AND t.idempotency_key = k.key
LEFT JOIN ledger_entries e ON e.transaction_id = t.id
"""

ANY_PENDING = "SELECT EXISTS (SELECT FROM ledger_pending)"

# The oldest rows without an entry. A row may have been removed again
# meanwhile, or queued twice: both fall out of the list but not of positions, which are deleted.
PENDING = f"""
SELECT queue.position, t.*
FROM (SELECT position, transaction_id FROM ledger_pending ORDER BY position LIMIT $1) AS queue
LEFT JOIN LATERAL (
    SELECT {TRANSACTION_COLUMNS} FROM transactions t
    WHERE t.id = queue.transaction_id
      AND NOT EXISTS (SELECT FROM ledger_entries e WHERE e.transaction_id = queue.transaction_id)
    OFFSET 0  -- each by the index, whatever the planner thinks of a table that just grew
) AS t ON true
ORDER BY queue.position
"""

# Ledger order, a page after seq $1 up to seq $2. The columns of a removed transaction are null.
ENTRIES = f"""
SELECT e.seq, e.transaction_id, e.leaf_hash, e.prev_hash, e.hash, {TRANSACTION_COLUMNS}
FROM ledger_entries e LEFT JOIN transactions t ON t.id = e.transaction_id
WHERE e.seq > $1 AND e.seq <= $2 ORDER BY e.seq LIMIT $3
"""

# A user's transactions in ledger order, a page after seq $2 up to seq $3.
MISSED = f"""
SELECT e.seq, {TRANSACTION_COLUMNS}
FROM ledger_entries e JOIN transactions t ON t.id = e.transaction_id
WHERE t.user_id = $1 AND e.seq > $2 AND e.seq <= $3 ORDER BY e.seq LIMIT $4
"""

# Transaction $1 in one snapshot: the head, its entry, the entry before, the row; and entry $2.
ENTRY_OF = f"""
SELECT h.seq AS head_seq, h.hash AS head_hash, h.root_hash, h.frontier,
       e.seq, e.leaf_hash, e.prev_hash, e.hash, b.hash AS before_hash, k.hash AS known_hash, {TRANSACTION_COLUMNS}
FROM ledger_head h
LEFT JOIN ledger_entries e ON e.transaction_id = $1
LEFT JOIN ledger_entries b ON b.seq = e.seq - 1
LEFT JOIN ledger_entries k ON k.seq = $2
LEFT JOIN transactions t ON t.id = $1
"""

# For each of these ranges, its hashes one after another; level 0 are the leaves. What is missing is not there.
HASHES = """
SELECT string_agg(found.hash, ''::bytea ORDER BY found.position) AS hashes
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS r (level, first, last, n)
LEFT JOIN LATERAL (
    SELECT e.seq - 1 AS position, e.leaf_hash AS hash
    FROM ledger_entries e WHERE r.level = 0 AND e.seq BETWEEN r.first + 1 AND r.last + 1
    UNION ALL
    SELECT s.position, s.hash
    FROM ledger_nodes s WHERE s.level = r.level AND s.position BETWEEN r.first AND r.last
) AS found ON true
GROUP BY r.n ORDER BY r.n
"""

NODES = """
SELECT n.level, n.position, n.hash
FROM unnest($1::smallint[], $2::bigint[]) AS k (level, position) JOIN ledger_nodes n USING (level, position)
"""

# A stored hash of a subtree that a ledger of $1 entries has not completed.
NODE_BEYOND = (
    "SELECT level, position FROM ledger_nodes WHERE position >= $1::bigint >> level ORDER BY 1, 2 LIMIT 1"
)

# Newest first; the cursor is the (inserted_at, id) of the last row seen.
HISTORY = f"""
SELECT {TRANSACTION_COLUMNS}, e.seq, e.hash
FROM (
    SELECT {TRANSACTION_COLUMNS} FROM transactions t
    WHERE t.user_id = $1 AND ($2::timestamptz IS NULL OR (t.inserted_at, t.id) < ($2, $3::uuid))
    ORDER BY t.inserted_at DESC, t.id DESC LIMIT $4
) AS t
LEFT JOIN LATERAL (SELECT e.seq, e.hash FROM ledger_entries e WHERE e.transaction_id = t.id OFFSET 0) AS e ON true
ORDER BY t.inserted_at DESC, t.id DESC
"""

# Rows that have no entry and do not wait for one: somebody got past the trigger.
UNRECORDED = """
SELECT t.id FROM transactions t
WHERE NOT EXISTS (SELECT FROM ledger_entries e WHERE e.transaction_id = t.id)
  AND NOT EXISTS (SELECT FROM ledger_pending p WHERE p.transaction_id = t.id)
ORDER BY t.inserted_at, t.id LIMIT 1
"""
