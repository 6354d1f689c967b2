-- Gradual rollout: a flag is on for percent of the users, always the same ones.
CREATE TABLE flags (
    name        text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_.-]{0,99}$'),
    percent     integer NOT NULL DEFAULT 0 CHECK (percent BETWEEN 0 AND 100),
    description text NOT NULL DEFAULT '',
    inserted_at timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER flags_touch BEFORE UPDATE ON flags FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

-- Who did what as an operator. Rows are added and never changed.
CREATE TABLE audit_log (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor_id       uuid,
    action         text NOT NULL,
    subject        text NOT NULL DEFAULT '',
    details        jsonb NOT NULL DEFAULT '{}',
    remote_address text NOT NULL DEFAULT '',
    request_id     text NOT NULL DEFAULT '',
    inserted_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_actor ON audit_log (actor_id, id DESC);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is not allowed: its rows are only added', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
