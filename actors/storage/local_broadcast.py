"""Events that every server reads from the database by itself: published to its own subscribers only, each once."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from runtime.phoenix import Broadcast, PubSub
from runtime.phoenix.endpoint import fastlane

log = logging.getLogger("bitnexus.broadcast")


def local_broadcast(pubsub: PubSub, events: Iterable[tuple[str, str, Any]]) -> None:
    """Send each (topic, event, payload) to the channels of this server.

    Never raises: what happened in the database stands, and an event that can't be encoded must not hold up those that follow.
    """
    for topic, event, payload in events:
        try:
            pubsub.local_broadcast(topic, Broadcast(topic, event, payload), fastlane)
        except Exception as error:
            log.warning("%s on %s was not broadcast: %r", event, topic, error)
