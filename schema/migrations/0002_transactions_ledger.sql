-- The main job. A transaction and its ledger entry become durable in one SQL transaction, under the lock
-- of the one head row; several servers on one database therefore write one gap-free ledger.
CREATE TABLE transactions (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id         uuid NOT NULL REFERENCES users,
    amount          numeric(18, 2) NOT NULL CHECK (amount <> 0 AND amount <> 'NaN'),
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    description     text NOT NULL DEFAULT '' CHECK (length(description) <= 1000),
    idempotency_key text CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    request_hash    bytea,
    inserted_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX transactions_page ON transactions (user_id, inserted_at DESC, id DESC);
CREATE UNIQUE INDEX transactions_idempotency ON transactions (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- Leaf seq - 1 of an RFC 6962 Merkle tree, and a hash chain besides. No foreign key to transactions: the
-- entry of a row that somebody removed must stay, since it is what proves the removal.
CREATE TABLE ledger_entries (
    seq            bigint PRIMARY KEY CHECK (seq > 0),
    transaction_id uuid NOT NULL UNIQUE,
    leaf_hash      bytea NOT NULL CHECK (length(leaf_hash) = 32),
    prev_hash      bytea NOT NULL CHECK (length(prev_hash) = 32),
    hash           bytea NOT NULL CHECK (length(hash) = 32)
);

-- Hashes of complete subtrees of 2^level leaves, level 8, 16, 24, ...: a proof reads these instead of all leaves.
CREATE TABLE ledger_nodes (
    level    smallint NOT NULL CHECK (level > 0 AND level % 8 = 0),
    position bigint NOT NULL CHECK (position >= 0),
    hash     bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, position)
);

-- One row for ever. frontier: the roots of the complete subtrees of the tree, largest first.
CREATE TABLE ledger_head (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq        bigint NOT NULL CHECK (seq >= 0),
    hash       bytea NOT NULL,
    root_hash  bytea NOT NULL,
    frontier   bytea[] NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
INSERT INTO ledger_head (seq, hash, root_hash, frontier)
VALUES (0, decode(repeat('00', 32), 'hex'), sha256(''), '{}');

-- Rows that others wrote into transactions and that have no ledger entry yet.
CREATE TABLE ledger_pending (
    position       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id uuid NOT NULL
);

-- The writer of a batch sets bitnexus.batch, so its rows are not queued a second time.
CREATE FUNCTION queue_for_ledger() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO ledger_pending (transaction_id) SELECT id FROM inserted;
    PERFORM pg_notify('bitnexus_ledger', 'pending');
    RETURN NULL;
END $$;

CREATE TRIGGER transactions_queue_for_ledger AFTER INSERT ON transactions
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT
    WHEN (current_setting('bitnexus.batch', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION queue_for_ledger();

-- Entries first_seq, first_seq + 1, ... and the new head. The caller holds the lock of the head row and has
-- compared it with what the hashes were computed from.
CREATE FUNCTION append_ledger_entries(
    node text, head_seq bigint, head_hash bytea,
    transaction_ids uuid[], leaf_hashes bytea[], hashes bytea[],
    new_root bytea, new_frontier bytea[], node_levels smallint[], node_positions bigint[], node_hashes bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    new_seq bigint := head_seq + cardinality(transaction_ids);
BEGIN
    INSERT INTO ledger_entries (seq, transaction_id, leaf_hash, prev_hash, hash)
    SELECT head_seq + e.n, e.transaction_id, e.leaf_hash,
           CASE WHEN e.n = 1 THEN head_hash ELSE hashes[e.n - 1] END, e.hash
    FROM unnest(transaction_ids, leaf_hashes, hashes) WITH ORDINALITY AS e (transaction_id, leaf_hash, hash, n);
    IF cardinality(node_levels) > 0 THEN
        INSERT INTO ledger_nodes (level, position, hash) SELECT * FROM unnest(node_levels, node_positions, node_hashes);
    END IF;
    UPDATE ledger_head SET seq = new_seq, hash = hashes[cardinality(hashes)], root_hash = new_root,
                           frontier = new_frontier, updated_at = now();
    PERFORM pg_notify('bitnexus_ledger', node || ':' || new_seq);
END $$;

-- One batch in one call. outcome: 'recorded'; 'stale' (the head is not the one the hashes were computed from;
-- seq, hash, root_hash and frontier say what it is); 'refused' (nothing was written: replayed lists rows whose idempotency
-- key is taken, orphaned those whose user does not exist).
CREATE FUNCTION record_transactions(
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
    END IF;
    SELECT array_agg(b.id) INTO orphaned
    FROM unnest(ids, user_ids) AS b (id, user_id)
    WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = b.user_id);
    IF replayed IS NOT NULL OR orphaned IS NOT NULL THEN
        outcome := 'refused';
        RETURN;
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
