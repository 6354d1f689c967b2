"""The authenticated caller of a request."""

from __future__ import annotations

from uuid import UUID

import msgspec


class Principal(msgspec.Struct, frozen=True, gc=False):
    """The subject of a token. `user_id` is None for a service that is no user; `exp` is in seconds since 1970."""

    user_id: UUID | None
    subject: str
    role: str
    email: str
    session_id: UUID | None
    exp: float
    own: bool = False  # the token was issued by BitNexus, for one of its users and sessions

    @property
    def is_admin(self) -> bool:
        """True for role admin."""
        return self.role == "admin"
