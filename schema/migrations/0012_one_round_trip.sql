-- What holds the head of the ledger is one call: no client is waited for while it is locked.
--
-- record_transactions no longer asks for each row whether its user exists: the foreign key does. A violation refuses the
-- whole batch, and the writer finds out whose user is missing.
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
BEGIN
    SELECT h.seq, h.hash, h.root_hash, h.frontier INTO seq, hash, root_hash, frontier FROM ledger_head h FOR UPDATE;
    IF seq <> head_seq OR hash <> head_hash THEN
        outcome := 'stale';
        RETURN;
    END IF;
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
    PERFORM set_config('bitnexus.batch', 'on', true);
    INSERT INTO transactions (id, user_id, amount, currency, description, idempotency_key, request_hash, inserted_at)
    SELECT b.id, b.user_id, b.amount::numeric, b.currency, b.description, b.key, b.request_hash, at
    FROM unnest(ids, user_ids, amounts, currencies, descriptions, keys, request_hashes)
        AS b (id, user_id, amount, currency, description, key, request_hash);
    PERFORM set_config('bitnexus.batch', 'off', true);
    PERFORM append_ledger_entries(node, head_seq, head_hash, ids, leaf_hashes, hashes,
                                  new_root, new_frontier, node_levels, node_positions, node_hashes);
    outcome := 'recorded';
END $$;

-- The entries of rows that others wrote, and their places in the queue, in one call. stale as above: nothing was done.
CREATE FUNCTION record_pending_transactions(
    node text, head_seq bigint, head_hash bytea, positions bigint[],
    transaction_ids uuid[], leaf_hashes bytea[], hashes bytea[],
    new_root bytea, new_frontier bytea[], node_levels smallint[], node_positions bigint[], node_hashes bytea[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    head record;
BEGIN
    SELECT h.seq, h.hash INTO head FROM ledger_head h FOR UPDATE;
    IF head.seq <> head_seq OR head.hash <> head_hash THEN
        RETURN 'stale';
    END IF;
    IF cardinality(transaction_ids) > 0 THEN
        PERFORM append_ledger_entries(node, head_seq, head_hash, transaction_ids, leaf_hashes, hashes,
                                      new_root, new_frontier, node_levels, node_positions, node_hashes);
    END IF;
    DELETE FROM ledger_pending WHERE position = ANY (positions);
    RETURN 'recorded';
END $$;

-- A write that changes nothing and takes what a transaction takes: the two tables, the head's lock, a place in the log and
-- on the disk. Who is ready can do it.
CREATE FUNCTION probe_write() RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    head_seq bigint;
BEGIN
    LOCK TABLE transactions, ledger_entries IN ROW EXCLUSIVE MODE;
    UPDATE ledger_head SET updated_at = now() RETURNING seq INTO head_seq;
    RETURN head_seq;
END $$;
