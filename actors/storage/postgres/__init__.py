"""The embedded PostgreSQL: a supervised postmaster in a data directory of the project."""
