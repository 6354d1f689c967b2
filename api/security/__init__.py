"""Authentication and authorization: tokens, sessions, passwords, the audit log."""
