"""A password that was checked: what the servers of a cluster tell each other, so that all slow down the same callers."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.nodes import codec

GUESSES = "guesses"  # the topic


@codec.register
@dataclass(frozen=True, slots=True)
class Guess:
    """A caller has tried a password of this account, and it was right or not."""

    account: str
    caller: str
    right: bool
