"""Whether this server can write, by its writer's experience. Readiness, metrics and operators read it from `ServerState`.

The first failure is logged; further ones are counted until a write works again.
"""

from __future__ import annotations

import logging
from typing import Final

from actors.server_state import ServerState
from actors.storage.failures import Meaning, meaning, reason

log = logging.getLogger("bitnexus.db_writer")

PROBE_MS: Final = 2000
# After a batch that failed by a mistake of ours, for which a good probe proves nothing.
MISTAKE_SECONDS: Final = 10.0


class WriteHealth:
    """Keeps `ServerState.written_at` and `ServerState.write_error`. `now` is the engine's clock, in seconds."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._failures = 0
        self._mistaken_at: float | None = None  # a batch failed, and the database was not away

    def is_probe_due(self, now: float) -> bool:
        """Whether no write has succeeded for PROBE_MS."""
        written_at = self._state.written_at
        return written_at is None or now - written_at >= PROBE_MS / 1000

    def probed(self, now: float) -> None:
        """A write that changes nothing has succeeded."""
        if self._mistaken_at is None or now - self._mistaken_at > MISTAKE_SECONDS:
            self.wrote(now)

    def wrote(self, now: float) -> None:
        """A write has succeeded."""
        state = self._state
        state.written_at = now
        self._mistaken_at = None
        if state.write_error is not None:
            log.warning("writing again, after %d failures", self._failures)
            state.write_error, self._failures = None, 0

    def failed(self, error: Exception, now: float) -> None:
        """A write has failed, for another reason than a row."""
        state = self._state
        self._failures += 1
        is_ours = meaning(error) is Meaning.OURS
        if is_ours:
            self._mistaken_at = now
        if state.write_error is None:
            traceback = error if is_ours else None
            log.error("the database can't be written: %s", reason(error), exc_info=traceback)
        state.write_error = reason(error)
