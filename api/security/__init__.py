"""Who may: tokens, sessions, passwords, the audit log."""
