-- The probe also takes the rights to insert: rows of nothing, so that no trigger of a row and no key sees them.
CREATE OR REPLACE FUNCTION probe_write() RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    head_seq bigint;
BEGIN
    LOCK TABLE transactions, ledger_entries IN ROW EXCLUSIVE MODE;
    PERFORM set_config('bitnexus.batch', 'on', true);  -- no rows wait for their entries
    INSERT INTO transactions SELECT * FROM transactions WHERE false;
    INSERT INTO ledger_entries SELECT * FROM ledger_entries WHERE false;
    PERFORM set_config('bitnexus.batch', 'off', true);
    UPDATE ledger_head SET updated_at = now() RETURNING seq INTO head_seq;
    RETURN head_seq;
END $$;
