"""The database: connection pool, listener, and the embedded PostgreSQL."""
