-- Servers that are nodes of one cluster tell each other what they commit. For them a NOTIFY would only take its lock and have each
-- read the entries that are on their way. `node` is the server that writes and, after it, those that it tells itself, separated by
-- spaces. As before but for that; its arguments are the same, so servers of an earlier version go on. They alone call record_transaction.
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
