-- What teams do. Any UPDATE, ours or another service's, raises the version, so optimistic locking holds
-- against every writer.
CREATE TABLE tasks (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    title       text NOT NULL CHECK (length(title) BETWEEN 1 AND 500),
    description text NOT NULL DEFAULT '',
    team_member text NOT NULL DEFAULT '',
    status      text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in_progress', 'done', 'cancelled')),
    priority    text NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    due_at      timestamptz,
    version     integer NOT NULL DEFAULT 1,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX tasks_page ON tasks (inserted_at DESC, id DESC);
CREATE INDEX tasks_team_member ON tasks (team_member, inserted_at DESC, id DESC);

CREATE FUNCTION raise_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TRIGGER tasks_version BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION raise_version();

-- What the two former Netlify functions kept: one row an address.
CREATE TABLE emails (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email       text NOT NULL CHECK (length(email) BETWEEN 3 AND 320),
    name        text NOT NULL DEFAULT '',
    source      text NOT NULL DEFAULT '',
    inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX emails_email_key ON emails (lower(email));

CREATE TABLE notifications (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id     uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title       text NOT NULL CHECK (length(title) BETWEEN 1 AND 500),
    body        text NOT NULL DEFAULT '',
    read_at     timestamptz,
    inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notifications_page ON notifications (user_id, inserted_at DESC, id DESC);
CREATE INDEX notifications_unread ON notifications (user_id) WHERE read_at IS NULL;
