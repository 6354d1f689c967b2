-- Every change of a shared table, by whomever. A reader keeps the snapshot it last read with and asks for the rows
-- that snapshot could not see: commits out of order are neither missed nor read twice, and nobody waits for a lock.
CREATE TABLE change_log (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    table_name  text NOT NULL,
    operation   text NOT NULL,
    row         jsonb NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX change_log_xid ON change_log (xid, id);
CREATE INDEX change_log_inserted_at ON change_log USING brin (inserted_at);

-- Where a listener stands; one row a node name.
CREATE TABLE listener_positions (
    node       text PRIMARY KEY,
    snapshot   pg_snapshot NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- The writer of the row need not have rights on the log.
CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO change_log (table_name, operation, row)
    VALUES (TG_TABLE_NAME, TG_OP, CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END);
    PERFORM pg_notify('bitnexus_changes', '');
    RETURN NULL;
END $$;

CREATE TRIGGER tasks_log AFTER INSERT OR UPDATE OR DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION log_change();
CREATE TRIGGER emails_log AFTER INSERT OR UPDATE OR DELETE ON emails FOR EACH ROW EXECUTE FUNCTION log_change();
CREATE TRIGGER notifications_log AFTER INSERT OR UPDATE OR DELETE ON notifications
    FOR EACH ROW EXECUTE FUNCTION log_change();
CREATE TRIGGER flags_log AFTER INSERT OR UPDATE OR DELETE ON flags FOR EACH ROW EXECUTE FUNCTION log_change();
-- An inserted transaction arrives through the ledger; a changed or removed one is somebody tampering.
CREATE TRIGGER transactions_log AFTER UPDATE OR DELETE ON transactions FOR EACH ROW EXECUTE FUNCTION log_change();
