-- A session that ends, a user whose rights change: every server has to send his sockets away and must not believe his tokens
-- from memory. By triggers, so that it also holds for what is done in psql. A server names itself in bitnexus.node: what it
-- did it knows already. DELETE: his sessions have ended (or are not what they were); INSERT: he may sign in again.
CREATE FUNCTION log_session(user_id uuid, operation text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO change_log (table_name, operation, row)
    VALUES ('sessions', operation, jsonb_build_object('user_id', user_id, 'node', current_setting('bitnexus.node', true)));
    SELECT pg_notify('bitnexus_changes', '');
$$;

CREATE FUNCTION log_revoked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM log_session(revoked.user_id, 'DELETE') FROM (
        SELECT DISTINCT n.user_id FROM new_rows n JOIN old_rows o USING (id)
        WHERE n.revoked_at IS NOT NULL AND o.revoked_at IS NULL) AS revoked;
    RETURN NULL;
END $$;

CREATE FUNCTION log_rights() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM log_session(OLD.id, CASE WHEN TG_OP = 'UPDATE' AND NEW.active AND NOT OLD.active THEN 'INSERT' ELSE 'DELETE' END);
    RETURN NULL;
END $$;

CREATE TRIGGER refresh_tokens_log AFTER UPDATE ON refresh_tokens
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION log_revoked();
CREATE TRIGGER users_rights_log AFTER UPDATE ON users FOR EACH ROW
    WHEN (OLD.role IS DISTINCT FROM NEW.role OR OLD.active IS DISTINCT FROM NEW.active) EXECUTE FUNCTION log_rights();
CREATE TRIGGER users_removed_log AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION log_rights();
