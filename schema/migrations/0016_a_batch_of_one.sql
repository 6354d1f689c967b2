-- A batch of one row: no arrays, no sets, no row of results. What it does and when is as in record_transactions, which the
-- caller asks when this is not 'recorded': it says more.
--
-- The caller has seen that the entry completes no subtree of a level of ledger_nodes. Of the tree's frontier an entry leaves the
-- first `kept` hashes as they are and puts one, `subtree`, in the place of the others.
CREATE FUNCTION record_transaction(
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
    IF listening <> ARRAY[node] THEN
        PERFORM pg_notify('bitnexus_ledger', node || ':' || head_seq + 1);
    END IF;
    RETURN 'recorded';
END $$;

REVOKE EXECUTE ON FUNCTION record_transaction(
    text, bigint, bytea, timestamptz, uuid, uuid, text, text, text, text, bytea, bytea, bytea, bytea, integer, bytea) FROM PUBLIC;
