"""Named SQL for users, their password hashes and their refresh tokens."""

from __future__ import annotations

COLUMNS = "u.id, u.email, u.name, u.role, u.active, u.inserted_at, u.updated_at"

# For sign-in: a user with the hash of their password, by address.
BY_EMAIL = f"""
SELECT {COLUMNS}, c.password_hash
FROM users u LEFT JOIN credentials c ON c.user_id = u.id
WHERE lower(u.email) = lower($1)
"""

BY_ID = f"SELECT {COLUMNS} FROM users u WHERE u.id = $1"

HASH_OF = "SELECT password_hash FROM credentials WHERE user_id = $1"

# Is the user active, and does their session (a family of refresh tokens; NULL for tokens of other services)
# still live?
SESSION_STATE = """
SELECT u.role, u.email, u.active,
       $2::uuid IS NULL OR EXISTS (
           SELECT FROM refresh_tokens r WHERE r.family_id = $2 AND r.user_id = $1 AND r.revoked_at IS NULL) AS alive
FROM users u WHERE u.id = $1
"""

# Who may not, and who may more: what a server keeps in memory of every user and session. $1: seconds that an access token lives.
ENDED_SESSIONS = "SELECT session_id FROM ended_sessions WHERE ended_at > now() - make_interval(secs => $1)"
PRIVILEGED_OR_INACTIVE = "SELECT id, role, active FROM users WHERE role <> 'user' OR NOT active"

# Newest first; $2, $3: inserted_at and id of the last row of the page before.
PAGE = f"""
SELECT {COLUMNS} FROM users u
WHERE ($2::timestamptz IS NULL OR (u.inserted_at, u.id) < ($2, $3::uuid))
ORDER BY u.inserted_at DESC, u.id DESC LIMIT $1
"""

CREATE = """
WITH u AS (
    INSERT INTO users (email, name, role) VALUES ($1, $2, $3) RETURNING *
), c AS (
    INSERT INTO credentials (user_id, password_hash) SELECT u.id, $4 FROM u WHERE $4::text IS NOT NULL
)
SELECT id, email, name, role, active, inserted_at, updated_at FROM u
"""

UPDATE = """
UPDATE users u SET email = coalesce($2, u.email), name = coalesce($3, u.name), role = coalesce($4, u.role),
                   active = coalesce($5, u.active)
WHERE u.id = $1
RETURNING u.id, u.email, u.name, u.role, u.active, u.inserted_at, u.updated_at
"""

SET_HASH = """
INSERT INTO credentials (user_id, password_hash) VALUES ($1, $2)
ON CONFLICT (user_id) DO UPDATE SET password_hash = excluded.password_hash
"""

ADD_REFRESH = """
INSERT INTO refresh_tokens (user_id, family_id, token_hash, expires_at)
VALUES ($1, $2, $3, now() + make_interval(secs => $4))
"""

ADD_SUCCESSOR = """
INSERT INTO refresh_tokens (user_id, family_id, token_hash, expires_at, parent_id)
VALUES ($1, $2, $3, now() + make_interval(secs => $4), $5)
"""

# Uses a token up: one row comes back when the token is known. `fresh` says whether it may be exchanged: this is its first use,
# or the first was less than $2 seconds ago and none that took its place has been used since (another tab, a lost answer).
USE_REFRESH = f"""
WITH r AS (
    SELECT id, user_id, family_id, used_at, revoked_at, expires_at
    FROM refresh_tokens WHERE token_hash = $1 FOR UPDATE
), spent AS (
    UPDATE refresh_tokens t SET used_at = now() FROM r WHERE t.id = r.id AND r.used_at IS NULL
)
SELECT r.id AS token_id, r.family_id, r.revoked_at IS NOT NULL AS revoked, r.expires_at <= now() AS expired,
       r.used_at IS NULL OR (
           r.used_at > now() - make_interval(secs => $2)
           AND NOT EXISTS (SELECT FROM refresh_tokens c
                           WHERE c.family_id = r.family_id AND c.parent_id = r.id AND c.used_at IS NOT NULL)) AS fresh,
       {COLUMNS}
FROM r JOIN users u ON u.id = r.user_id
"""

REVOKE_FAMILY = """
UPDATE refresh_tokens SET revoked_at = now() WHERE family_id = $1 AND revoked_at IS NULL RETURNING family_id
"""

SESSION_OF_REFRESH = "SELECT family_id, user_id FROM refresh_tokens WHERE token_hash = $1"

REVOKE_OF_USER = """
UPDATE refresh_tokens SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL RETURNING family_id
"""

FORGET_EXPIRED = """
DELETE FROM refresh_tokens WHERE family_id IN (
    SELECT family_id FROM refresh_tokens
    GROUP BY family_id HAVING max(expires_at) < now() - interval '1 day' LIMIT 1000)
"""

FORGET_ENDED = "DELETE FROM ended_sessions WHERE ended_at < now() - interval '2 days'"
