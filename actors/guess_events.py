"""The event of a password check, which servers of a cluster publish to each other so that all throttle the same callers."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.nodes import codec

GUESSES = "guesses"  # the topic


@codec.register
@dataclass(frozen=True, slots=True)
class Guess:
    """A caller has tried a password for this account, which was right or wrong."""

    account: str
    caller: str
    right: bool
