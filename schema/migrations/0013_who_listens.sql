-- A NOTIFY takes a lock of the whole database at COMMIT and wakes every listener. Where one server is alone it would wake
-- nobody but itself: the head says who listens, and a batch notifies only if that is anybody else. Who is not told finds
-- the new head by looking at it.
ALTER TABLE ledger_head ADD COLUMN listeners text[] NOT NULL DEFAULT '{}';

-- A server listens from now on: it calls this over the connection that listens, before it reads the head for the first
-- time. The head's lock comes first, so of two servers the later one sees the connection of the other. Listeners whose
-- connections are gone fall out here.
CREATE FUNCTION listen_to_ledger(node text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM ledger_head FOR UPDATE;
    UPDATE ledger_head SET listeners = ARRAY(
        SELECT node UNION
        SELECT split_part(application_name, ' ', 3) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'bitnexus listener %');
END $$;

-- Entries head_seq + 1 and on, and the new head, if the head still is what the hashes were computed from: whether it was.
-- The head stays locked until COMMIT.
CREATE FUNCTION append_to_ledger(
    node text, head_seq bigint, head_hash bytea,
    transaction_ids uuid[], leaf_hashes bytea[], hashes bytea[],
    new_root bytea, new_frontier bytea[], node_levels smallint[], node_positions bigint[], node_hashes bytea[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    new_seq bigint := head_seq + cardinality(transaction_ids);
    listening text[];
BEGIN
    UPDATE ledger_head h SET seq = new_seq, hash = hashes[cardinality(hashes)], root_hash = new_root,
                             frontier = new_frontier, updated_at = now()
    WHERE h.seq = head_seq AND h.hash = head_hash RETURNING h.listeners INTO listening;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO ledger_entries (seq, transaction_id, leaf_hash, prev_hash, hash)
    SELECT head_seq + e.n, e.transaction_id, e.leaf_hash,
           CASE WHEN e.n = 1 THEN head_hash ELSE hashes[e.n - 1] END, e.hash
    FROM unnest(transaction_ids, leaf_hashes, hashes) WITH ORDINALITY AS e (transaction_id, leaf_hash, hash, n);
    IF cardinality(node_levels) > 0 THEN
        INSERT INTO ledger_nodes (level, position, hash) SELECT * FROM unnest(node_levels, node_positions, node_hashes);
    END IF;
    IF listening <> ARRAY[node] THEN
        PERFORM pg_notify('bitnexus_ledger', node || ':' || new_seq);
    END IF;
    RETURN true;
END $$;

-- One batch in one call. outcome as before. Keys are looked up before the head is locked: who takes one in between moves
-- the head with it, and this batch is stale.
CREATE OR REPLACE FUNCTION record_transactions(
    node text, head_seq bigint, head_hash bytea, at timestamptz,
    ids uuid[], user_ids uuid[], amounts text[], currencies text[], descriptions text[],
    keys text[], request_hashes bytea[], keyed boolean,
    leaf_hashes bytea[], hashes bytea[],
    new_root bytea, new_frontier bytea[], node_levels smallint[], node_positions bigint[], node_hashes bytea[],
    OUT outcome text, OUT seq bigint, OUT hash bytea, OUT root_hash bytea, OUT frontier bytea[],
    OUT replayed uuid[], OUT orphaned uuid[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    batch text;  -- an assignment costs less than PERFORM
BEGIN
    IF keyed THEN
        SELECT array_agg(b.id) INTO replayed
        FROM unnest(ids, user_ids, keys) AS b (id, user_id, key)
        JOIN transactions t ON t.user_id = b.user_id AND t.idempotency_key = b.key
        WHERE b.key IS NOT NULL;
        IF replayed IS NOT NULL THEN
            outcome := 'refused';
            RETURN;
        END IF;
    END IF;
    IF NOT append_to_ledger(node, head_seq, head_hash, ids, leaf_hashes, hashes,
                            new_root, new_frontier, node_levels, node_positions, node_hashes) THEN
        SELECT h.seq, h.hash, h.root_hash, h.frontier INTO seq, hash, root_hash, frontier FROM ledger_head h;
        outcome := 'stale';
        RETURN;
    END IF;
    batch := set_config('bitnexus.batch', 'on', true);
    INSERT INTO transactions (id, user_id, amount, currency, description, idempotency_key, request_hash, inserted_at)
    SELECT b.id, b.user_id, b.amount::numeric, b.currency, b.description, b.key, b.request_hash, at
    FROM unnest(ids, user_ids, amounts, currencies, descriptions, keys, request_hashes)
        AS b (id, user_id, amount, currency, description, key, request_hash);
    batch := set_config('bitnexus.batch', 'off', true);
    outcome := 'recorded';
END $$;

CREATE OR REPLACE FUNCTION record_pending_transactions(
    node text, head_seq bigint, head_hash bytea, positions bigint[],
    transaction_ids uuid[], leaf_hashes bytea[], hashes bytea[],
    new_root bytea, new_frontier bytea[], node_levels smallint[], node_positions bigint[], node_hashes bytea[]
) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(transaction_ids) > 0 AND NOT append_to_ledger(
        node, head_seq, head_hash, transaction_ids, leaf_hashes, hashes,
        new_root, new_frontier, node_levels, node_positions, node_hashes
    ) THEN
        RETURN 'stale';
    END IF;
    DELETE FROM ledger_pending WHERE position = ANY (positions);
    RETURN 'recorded';
END $$;

DROP FUNCTION append_ledger_entries(
    text, bigint, bytea, uuid[], bytea[], bytea[], bytea, bytea[], smallint[], bigint[], bytea[]);

REVOKE EXECUTE ON FUNCTION
    listen_to_ledger(text),
    append_to_ledger(text, bigint, bytea, uuid[], bytea[], bytea[], bytea, bytea[], smallint[], bigint[], bytea[]),
    record_pending_transactions(text, bigint, bytea, bigint[], uuid[], bytea[], bytea[], bytea, bytea[], smallint[], bigint[], bytea[])
    FROM PUBLIC;
