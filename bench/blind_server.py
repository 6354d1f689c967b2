"""`bitnexus serve` without observability (no telemetry handler, no samples, no report log), to measure what that costs."""

from __future__ import annotations

import sys

from actors.observer import Observer
from runtime.core import telemetry


def blind(self: Observer, root: str = "root", pubsub: str = "pubsub") -> None:
    pass


telemetry.attach = lambda *_args, **_options: None  # type: ignore[assignment]
Observer.init = blind  # type: ignore[method-assign]

if __name__ == "__main__":
    from api.cli.main import main

    sys.exit(main())
