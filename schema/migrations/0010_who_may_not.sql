-- Which sessions have ended: every server keeps in memory who may *not*, so that a token is believed by its signature and
-- memory alone. A session is a family of refresh tokens; it ends when none of them is left that is not revoked, however that
-- comes about: revoked, deleted, truncated. Rows are kept longer than any access token lives (a day and the leeway).
CREATE TABLE ended_sessions (
    session_id uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    ended_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ended_sessions_ended_at ON ended_sessions (ended_at);
CREATE INDEX users_not_plain ON users (id) WHERE role <> 'user' OR NOT active;

INSERT INTO ended_sessions (session_id, user_id, ended_at)
SELECT family_id, min(user_id::text)::uuid, max(revoked_at) FROM refresh_tokens
WHERE revoked_at > now() - interval '2 days'
GROUP BY family_id ON CONFLICT DO NOTHING;

-- The token that this one took the place of: one that was replaced a moment ago is good for a while more, unless what took its
-- place has been used as well.
ALTER TABLE refresh_tokens ADD COLUMN parent_id uuid;

CREATE FUNCTION end_session(ended uuid, owner uuid) RETURNS void LANGUAGE sql AS $$
    INSERT INTO ended_sessions (session_id, user_id) VALUES (ended, owner)
    ON CONFLICT (session_id) DO UPDATE SET ended_at = excluded.ended_at;
    INSERT INTO change_log (table_name, operation, row) VALUES ('sessions', 'DELETE', jsonb_build_object(
        'user_id', owner, 'session_id', ended, 'node', current_setting('bitnexus.node', true)));
    SELECT pg_notify('bitnexus_changes', '');
$$;

CREATE OR REPLACE FUNCTION log_revoked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM end_session(revoked.family_id, revoked.user_id) FROM (
        SELECT DISTINCT n.family_id, n.user_id FROM new_rows n JOIN old_rows o USING (id)
        WHERE n.revoked_at IS NOT NULL AND o.revoked_at IS NULL
          AND NOT EXISTS (SELECT FROM refresh_tokens r WHERE r.family_id = n.family_id AND r.revoked_at IS NULL)) AS revoked;
    RETURN NULL;
END $$;

-- What has expired for a day is swept (users.FORGET_EXPIRED): no access token of it is left, and nobody need be told.
CREATE FUNCTION log_deleted_tokens() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM end_session(gone.family_id, gone.user_id) FROM (
        SELECT DISTINCT o.family_id, o.user_id FROM old_rows o
        WHERE o.revoked_at IS NULL AND o.expires_at > now() - interval '1 day'
          AND NOT EXISTS (SELECT FROM refresh_tokens r WHERE r.family_id = o.family_id AND r.revoked_at IS NULL)) AS gone;
    RETURN NULL;
END $$;
CREATE TRIGGER refresh_tokens_deleted_log AFTER DELETE ON refresh_tokens
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION log_deleted_tokens();

CREATE FUNCTION log_truncated_tokens() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM end_session(gone.family_id, gone.user_id) FROM (
        SELECT DISTINCT family_id, user_id FROM refresh_tokens
        WHERE revoked_at IS NULL AND expires_at > now() - interval '1 day') AS gone;
    RETURN NULL;
END $$;
CREATE TRIGGER refresh_tokens_truncated_log BEFORE TRUNCATE ON refresh_tokens
    FOR EACH STATEMENT EXECUTE FUNCTION log_truncated_tokens();

-- A user's rights as they are now; a user who is no more has none.
CREATE OR REPLACE FUNCTION log_rights() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO change_log (table_name, operation, row) VALUES (
        'sessions',
        CASE WHEN TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.active AND NOT OLD.active THEN 'INSERT' ELSE 'DELETE' END,
        jsonb_build_object('user_id', coalesce(NEW.id, OLD.id), 'node', current_setting('bitnexus.node', true),
                           'active', coalesce(NEW.active, false), 'role', NEW.role));
    PERFORM pg_notify('bitnexus_changes', '');
    RETURN NULL;
END $$;
CREATE TRIGGER users_added_log AFTER INSERT ON users FOR EACH ROW
    WHEN (NEW.role <> 'user' OR NOT NEW.active) EXECUTE FUNCTION log_rights();
DROP FUNCTION log_session(uuid, text);
