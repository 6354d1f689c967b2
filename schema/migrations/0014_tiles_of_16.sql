-- Hashes of complete subtrees of 2^4, 2^8, 2^12, ... leaves instead of 2^8, 2^16, ...: a proof reads at most 30 hashes
-- of each of these levels, so it costs about the same in a ledger of any size. What is there already gets them in 0015.

-- Waits for the batch that is being written; those that begin later find the new functions.
LOCK TABLE ledger_head IN EXCLUSIVE MODE;

ALTER TABLE ledger_nodes DROP CONSTRAINT ledger_nodes_level_check;
ALTER TABLE ledger_nodes ADD CONSTRAINT ledger_nodes_level_check CHECK (level > 0 AND level % 4 = 0);

-- RFC 6962's hash of an inner node.
CREATE FUNCTION merkle_node(child bytea, sibling bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT sha256('\x01'::bytea || child || sibling) $$;

-- The root over 16 hashes.
CREATE FUNCTION merkle_tile(h bytea[]) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT merkle_node(
        merkle_node(merkle_node(merkle_node(h[1], h[2]), merkle_node(h[3], h[4])),
                    merkle_node(merkle_node(h[5], h[6]), merkle_node(h[7], h[8]))),
        merkle_node(merkle_node(merkle_node(h[9], h[10]), merkle_node(h[11], h[12])),
                    merkle_node(merkle_node(h[13], h[14]), merkle_node(h[15], h[16]))))
$$;

-- Stores the hashes, as far as they are missing, of the subtrees that entries first + 1 to last have completed. A subtree
-- of which a hash is missing stays out.
CREATE FUNCTION fill_ledger_nodes(first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    tile_level smallint := 4;
BEGIN
    INSERT INTO ledger_nodes (level, position, hash)
    SELECT 4, tile.position, merkle_tile(tile.hashes)
    FROM (SELECT e.seq - 1 >> 4 AS position, array_agg(e.leaf_hash ORDER BY e.seq) AS hashes
          FROM ledger_entries e WHERE e.seq > first >> 4 << 4 AND e.seq <= last >> 4 << 4
          GROUP BY e.seq - 1 >> 4 HAVING count(*) = 16) AS tile
    ON CONFLICT DO NOTHING;
    LOOP
        tile_level := tile_level + 4;
        EXIT WHEN first >> tile_level = last >> tile_level;
        INSERT INTO ledger_nodes (level, position, hash)
        SELECT tile_level, tile.position, merkle_tile(tile.hashes)
        FROM (SELECT n.position >> 4 AS position, array_agg(n.hash ORDER BY n.position) AS hashes
              FROM ledger_nodes n
              WHERE n.level = tile_level - 4
                AND n.position >= first >> tile_level << 4 AND n.position < last >> tile_level << 4
              GROUP BY n.position >> 4 HAVING count(*) = 16) AS tile
        ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- As before, but for the batch of a server of an earlier version, which brings no hashes of level 4, 12, ...
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
    IF listening <> ARRAY[node] THEN
        PERFORM pg_notify('bitnexus_ledger', node || ':' || new_seq);
    END IF;
    RETURN true;
END $$;

-- The step of 0015: entries after `first`, a number of full tiles of level 12 at most; what the next step begins with, or null.
CREATE FUNCTION fill_ledger_nodes_after(first bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last bigint := first + 65536;
    head_seq bigint;
BEGIN
    SELECT seq INTO head_seq FROM ledger_head;
    IF last >= head_seq THEN  -- the last step: no batch is under way that may have found the old functions
        SELECT seq INTO head_seq FROM ledger_head FOR UPDATE;
        PERFORM fill_ledger_nodes(first, head_seq);
        RETURN NULL;
    END IF;
    PERFORM fill_ledger_nodes(first, last);
    RETURN last;
END $$;

REVOKE EXECUTE ON FUNCTION fill_ledger_nodes(bigint, bigint), fill_ledger_nodes_after(bigint) FROM PUBLIC;
