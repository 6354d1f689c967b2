-- The Netlify functions read the shared tables and write nothing. To let them in:
--   ALTER ROLE netlify_readonly LOGIN PASSWORD '...';
-- Secrets (credentials, refresh_tokens, audit_log) are not theirs to read. A later migration that adds a shared
-- table grants SELECT on it here by name.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'netlify_readonly') THEN
        BEGIN
            CREATE ROLE netlify_readonly NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;   -- another database of this server was migrated at the same moment
        END;
    END IF;
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO netlify_readonly', current_schema());
    BEGIN
        ALTER ROLE netlify_readonly SET default_transaction_read_only = on;
        GRANT netlify_readonly TO CURRENT_USER;   -- so that SET ROLE shows what it may do
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE 'the role netlify_readonly was made by somebody else and is left as it is';
    END;
END $$;

GRANT SELECT ON users, transactions, ledger_entries, ledger_nodes, ledger_head, tasks, emails, notifications, flags
    TO netlify_readonly;

REVOKE EXECUTE ON FUNCTION
    append_ledger_entries(text, bigint, bytea, uuid[], bytea[], bytea[], bytea, bytea[], smallint[], bigint[], bytea[]),
    record_transactions(text, bigint, bytea, timestamptz, uuid[], uuid[], text[], text[], text[], text[], bytea[], boolean,
                        bytea[], bytea[], bytea, bytea[], smallint[], bigint[], bytea[])
    FROM PUBLIC;
