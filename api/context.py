"""What the operations of one server share: its settings, keys, caches and throttles."""

from __future__ import annotations

import time
from typing import TypeAlias

from actors.settings import Settings
from api.http import request
from api.http.lanes import Lanes
from api.http.throttle import Bucket
from api.security.guessing import Guesses
from api.security.passwords import Passwords
from api.security.sessions import Sessions
from api.security.tokens import Keyring


class Context:
    """Made once for each server. Raises ConfigError for a key that can't be used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keyring = Keyring(settings)
        self.sessions = Sessions(self.keyring, settings.access_token_seconds + settings.jwt_leeway)
        self.passwords = Passwords()
        self.guesses = Guesses()
        self.sign_ups = Bucket(burst=30, rate=0.5)  # of e-mail addresses, by caller
        self.lanes = Lanes()
        self.started = time.time()

    def close(self) -> None:
        """Ends the password threads."""
        self.passwords.close()


ApiRequest: TypeAlias = request.ApiRequest[Context]
