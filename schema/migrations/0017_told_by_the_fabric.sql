-- Servers that are nodes of one cluster tell each other what they commit. For them a NOTIFY would only take its lock and have each
-- read the entries that are on their way. `node` is the server that writes and, after it, those that it tells itself, separated by
-- spaces. As before but for that; the functions keep their arguments, so servers of an earlier version go on.
CREATE OR REPLACE FUNCTION append_to_ledger(
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
    IF head_seq >> 4 < new_seq >> 4 AND 4 <> ALL (node_levels) THEN
        PERFORM fill_ledger_nodes(head_seq, new_seq);
    END IF;
    IF listening = '{}' OR NOT listening <@ string_to_array(node, ' ') THEN
        PERFORM pg_notify('bitnexus_ledger', split_part(node, ' ', 1) || ':' || new_seq);
    END IF;
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION record_transaction(
    node text, head_seq bigint, head_hash bytea, at timestamptz,
    id uuid, user_id uuid, amount text, currency text, description text, key text, request_hash bytea,
    leaf_hash bytea, hash bytea, new_root bytea, kept integer, subtree bytea
) RETURNS text LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    listening text[];
    batch text;  -- an assignment costs less than PERFORM
BEGIN
    IF key IS NOT NULL AND EXISTS (
        SELECT FROM transactions t WHERE t.user_id = user_id AND t.idempotency_key = key
    ) THEN
        RETURN 'refused';
    END IF;
    UPDATE ledger_head h SET seq = head_seq + 1, hash = hash, root_hash = new_root,
                             frontier = array_append(h.frontier[1:kept], subtree), updated_at = now()
    WHERE h.seq = head_seq AND h.hash = head_hash RETURNING h.listeners INTO listening;
    IF NOT FOUND THEN
        RETURN 'stale';
    END IF;
    INSERT INTO ledger_entries (seq, transaction_id, leaf_hash, prev_hash, hash)
    VALUES (head_seq + 1, id, leaf_hash, head_hash, hash);
    batch := set_config('bitnexus.batch', 'on', true);
    INSERT INTO transactions (id, user_id, amount, currency, description, idempotency_key, request_hash, inserted_at)
    VALUES (id, user_id, amount::numeric, currency, description, key, request_hash, at);
    batch := set_config('bitnexus.batch', 'off', true);
    IF listening = '{}' OR NOT listening <@ string_to_array(node, ' ') THEN
        PERFORM pg_notify('bitnexus_ledger', split_part(node, ' ', 1) || ':' || head_seq + 1);
    END IF;
    RETURN 'recorded';
END $$;
