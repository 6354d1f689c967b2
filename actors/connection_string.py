"""DATABASE_URL: libpq's connection URI, which may name several hosts, a primary and its standbys.

Hosts are in the authority (`postgresql://user:password@one:5432,two:5432/name`) or, for directories of Unix sockets, in the
query (`?host=/run/one,/run/two&port=5432,5433`). With several hosts `target_session_attrs` defaults to `read-write`: libpq's own
default takes the first host that answers, which may be a standby.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

SCHEMES: Final = ("postgresql", "postgres")
WRITABLE: Final = ("read-write", "primary")
# Limits of libpq's on the connection, which asyncpg takes for settings of the server; actors.storage.connecting has its own.
LIMITS: Final = frozenset(
    (
        "connect_timeout",
        "tcp_user_timeout",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
    )
)


def each_host(url: str) -> list[str]:
    """A URL for each host, in order, without `LIMITS`. Raises ValueError if the number of ports does not match that of hosts."""
    parts = urlsplit(url)
    given = parse_qsl(parts.query, keep_blank_values=True)
    query = [pair for pair in given if pair[0] not in LIMITS]
    if len(query) < len(given):
        parts = parts._replace(query=urlencode(query, quote_via=quote))
        url = _with(parts, parts.netloc, parts.query)
    user, at, authority = parts.netloc.rpartition("@")
    if "," in authority:
        return [_with(parts, f"{user}{at}{host}", parts.query) for host in authority.split(",")]
    hosts = dict(query).get("host", "").split(",")
    if len(hosts) == 1:
        return [url]
    ports = dict(query).get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ValueError(f"expected one port, or as many as hosts ({len(hosts)})")
    rest = [pair for pair in query if pair[0] not in ("host", "port")]
    return [
        _with(parts, parts.netloc, urlencode([*rest, ("host", host), ("port", port)], quote_via=quote))
        for host, port in zip(hosts, ports, strict=True)
    ]


def session_attributes(url: str) -> str | None:
    """The effective `target_session_attrs`; None for one host without the parameter, which may then be any."""
    given = dict(parse_qsl(urlsplit(url).query)).get("target_session_attrs")
    if given is None and len(each_host(url)) > 1:
        return WRITABLE[0]
    return given


def check(url: str) -> str:
    """The URL, if it is valid and asks for a writable session. Raises ValueError, one line, with what was expected."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        hosts = [urlsplit(each) for each in each_host(url)]
        for host in hosts:
            host.port  # noqa: B018  (raises on a port that is no number)
    except ValueError as error:
        raise ValueError(f"not a URL ({error})") from None
    if parts.scheme not in SCHEMES or not (parts.netloc or parts.query):
        raise ValueError("expected a URL that starts with postgresql:// or postgres://")
    if len(hosts) > 1 and not all(host.hostname or "host=" in host.query for host in hosts):
        raise ValueError("one of several hosts is empty")
    if dict(parse_qsl(parts.query)).get("channel_binding") == "require":
        raise ValueError(
            "channel_binding=require: not supported; leave it out, and verify the server by sslmode=verify-full"
        )
    wanted = session_attributes(url)
    if wanted not in (None, *WRITABLE) and (wanted != "any" or len(hosts) > 1):
        raise ValueError(f"target_session_attrs={wanted}: expected read-write or primary, BitNexus writes")
    return url


def _with(parts: SplitResult, authority: str, query: str) -> str:
    return f"{parts.scheme}://{authority}{parts.path}{'?' if query else ''}{query}"
