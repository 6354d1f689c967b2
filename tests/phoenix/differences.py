"""Where we knowingly answer otherwise than Phoenix: name of the transcript -> reason. `docs/phoenix.md` tells why."""

DIFFERENCES: dict[str, str] = {}
