"""Settings of BitNexus: one table of environment variables, read once at start into a frozen value.

Owns the names, defaults, checks and meanings of every environment variable, each said once, as a field of `Settings`. `VARIABLES`
is what `bitnexus config`, `bitnexus doctor` and docs/operations.md show. A wrong value raises `ConfigError`, whose text is one
line that names the variable, what is wrong and what to do. Nothing else in BitNexus reads the environment.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from actors import connection_string, variables
from actors.secret_keys import MIN_SECRET_BYTES, make_key, weakness
from actors.variables import Variable, variable

DEVELOPMENT_KEY_FILE = "secret_key_base"


class ConfigError(Exception):
    """A setting is missing or wrong; the text is one line for the person who starts the server."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of `bitnexus config`: the value as text, with secrets masked, and where it came from."""

    name: str
    value: str
    source: str
    meaning: str


URLS = ("DATABASE_URL", "GO_API_URL", "OTEL_EXPORTER_OTLP_ENDPOINT")  # each may hold a password


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, read and checked. Made by `load`. A field is the environment variable of that name in capitals."""

    bitnexus_env: str = variable(
        "dev", variables.one_of("dev", "test", "prod"), "dev, test or prod; prod refuses weak secrets"
    )
    host: str = variable("127.0.0.1", variables.host, "address to listen on; 0.0.0.0 for all")
    port: int = variable(
        "4000", variables.whole(0, 65535), "TCP port of HTTP and WebSocket; 0 takes a free one"
    )
    database_url: str = variable(
        "",
        connection_string.check,
        "PostgreSQL to use, postgresql://user:password@host:5432/name, host1:5432,host2:5432 for a primary and its standbys; "
        "unset starts the embedded one",
        secret=True,
    )
    data_dir: Path = variable(  # noqa: RUF009  (it makes a field)
        ".data", variables.path, "folder of the embedded database and of the development key"
    )
    database_pool_size: int = variable(
        "10",
        variables.whole(2, 200),
        "connections in the pool for users' requests; operators' requests have two of their own",
    )
    secret_key_base: str = variable(
        "",
        variables.text,
        f"key that signs tokens (HS256), {MIN_SECRET_BYTES} bytes or more; unset, dev makes one in DATA_DIR",
        secret=True,
    )
    jwt_private_key: str = variable(
        "",
        variables.text,
        "Ed25519 or RSA private key, PEM text or path: tokens are then signed with EdDSA or RS256 and verified with the keys "
        "of /.well-known/jwks.json",
        secret=True,
    )
    jwt_previous_keys: tuple[str, ...] = variable(
        "",
        variables.comma_separated,
        "earlier keys still accepted, comma separated paths (private or public PEM) or HS256 secrets",
        secret=True,
    )
    jwt_issuer: str = variable("bitnexus", variables.text, "claim iss of tokens")
    jwt_audience: str = variable("bitnexus", variables.text, "claim aud of tokens")
    jwt_leeway: int = variable("10", variables.whole(0, 300), "clock skew allowed, seconds")
    access_token_seconds: int = variable(
        "3600", variables.whole(30, 86400), "lifetime of an access token, seconds"
    )
    refresh_token_seconds: int = variable(
        "2592000", variables.whole(60, 31536000), "lifetime of a refresh token, seconds"
    )
    refresh_reuse_seconds: int = variable(
        "10",
        variables.whole(0, 60),
        "how long a replaced refresh token stays valid, for another tab or a lost answer, seconds",
    )
    cors_origins: tuple[str, ...] = variable(
        "", variables.origins, "origins allowed to call from browsers, comma separated, or *"
    )
    trusted_proxies: tuple[str, ...] = variable(
        "",
        variables.networks,
        "proxies whose X-Forwarded-* headers are trusted: addresses or networks, comma separated, or *",
    )
    go_api_url: str = variable("", variables.service, "Go service behind /api/v1/services/go")
    services: tuple[tuple[str, str], ...] = variable(
        "", variables.services, "further services, name=url pairs, comma separated"
    )
    max_body_bytes: int = variable(
        "1048576",
        variables.whole(1024, 1 << 30),
        "largest request body, bytes; JSON and forms at most 262144",
    )
    shutdown_grace_seconds: int = variable(
        "5", variables.whole(0, 60), "how long open requests may take to finish at shutdown, seconds"
    )
    metrics_token: str = variable(
        "",
        variables.matching("[!-~]([ -~]*[!-~])?", "printable ASCII characters, without spaces at the ends"),
        "bearer token for /metrics; unset, only loopback may read it",
        secret=True,
    )
    otel_exporter_otlp_endpoint: str = variable(
        "",
        variables.url("http", "https"),
        "where OpenTelemetry traces go (OTLP over HTTP); needs the extra bitnexus[tracing]; unset for none",
    )
    cluster_url: tuple[str, ...] = variable(
        "",
        variables.nats_urls,
        "NATS servers that connect this server to others, nats://user:password@host:4222 or tls://..., comma separated; "
        "unset for a single server",
        secret=True,
    )
    cluster_name: str = variable(
        "bitnexus",
        variables.matching(r"[A-Za-z0-9_-]{1,64}", "letters, digits, - and _, at most 64"),
        "name of the cluster: servers with the same name and key belong together",
    )
    cluster_secret: str = variable(
        "",
        variables.text,
        "key that authenticates the servers of a cluster, 32 bytes or more; unset, derived from SECRET_KEY_BASE",
        secret=True,
    )
    node_name: str = variable(
        "",
        variables.matching(
            r"[A-Za-z0-9_-]{1,64}@[A-Za-z0-9_.-]{1,200}", "name@host: letters, digits, - and _"
        ),
        "this server's name in the cluster, unique; unset, bitnexus@ and the host name",
    )
    cluster_credentials: str = variable(
        "",
        variables.readable_file,
        "path of a NATS .creds file (JWT and seed), if the NATS servers require one",
    )
    cluster_ca: str = variable(
        "",
        variables.readable_file,
        "path of the CA certificates to verify NATS servers with, PEM; unset, the system's",
    )
    cluster_cert: str = variable(
        "", variables.readable_file, "path of the client certificate for NATS servers, PEM"
    )
    cluster_key: str = variable("", variables.readable_file, "path of that certificate's private key, PEM")
    nodes: int = variable(
        "1", variables.whole(1, 64), "server processes that `bitnexus serve` starts on this machine"
    )
    listen_sockets: tuple[int, ...] = variable(
        "", variables.descriptors, "inherited sockets to listen on; set by serve --nodes"
    )
    parent_socket: tuple[int, ...] = variable(
        "", variables.descriptors, "inherited socket to the parent; set by serve --nodes"
    )
    log_level: str = variable("info", variables.log_level, "debug, info, warning, error or critical")
    access_log: str = variable(
        "off",
        variables.one_of("off", "errors", "all"),
        "off, errors (a line for each response of 400 and above, limited per client) or all",
    )
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def production(self) -> bool:
        """True when BITNEXUS_ENV is prod."""
        return self.bitnexus_env == "prod"

    @property
    def embedded_database(self) -> bool:
        """True when no DATABASE_URL is set and the embedded PostgreSQL serves."""
        return not self.database_url

    def go_services(self) -> dict[str, str]:
        """Name -> URL of every service behind the Go bridge; GO_API_URL is named `go`."""
        services = dict(self.services)
        if self.go_api_url:
            services.setdefault("go", self.go_api_url)
        return services


_PASSWORD: Final = re.compile(r"(?<=:)[^/@:]+(?=@)")  # of a URL, wherever in the value it stands


VARIABLES: tuple[Variable, ...] = tuple(
    Variable(each.name.upper(), **each.metadata) for each in fields(Settings) if each.metadata
)


def load(
    env: Mapping[str, str] | None = None, *, any_secret: bool = False, faults: list[ConfigError] | None = None
) -> Settings:
    """Read and check every variable of `env` (default: the process's environment).

    Raises `ConfigError`, one line, on the first wrong value. With `any_secret` it accepts a SECRET_KEY_BASE that prod refuses;
    the caller then checks it. With `faults` it raises nothing: errors are appended to the list, and wrong values are replaced by
    defaults. Creates no file: see `signing_secret`.
    """
    env = os.environ if env is None else env
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for each in VARIABLES:
        given = env.get(each.name)
        text = each.default if given is None or given == "" else given
        sources[each.name] = "default" if text is each.default else "environment"
        try:
            values[each.attribute] = each.read(variables.utf8(text))
        except ValueError as error:
            shown = "" if each.secret else f"={_PASSWORD.sub('********', text)!r}"
            fault = ConfigError(f"{each.name}{shown}: {error}")
            if faults is None:
                raise fault from None
            faults.append(fault)
            values[each.attribute] = each.read(each.default)
    settings = Settings(**values, sources=sources)
    if not any_secret:
        check_secret(settings)
    try:
        _check_cluster(settings)
    except ConfigError as fault:
        if faults is None:
            raise
        named = str(fault).partition(":")[0]
        if not any(str(one).startswith(named) for one in faults):  # else it is the default that was checked
            faults.append(fault)
    return settings


def _check_cluster(settings: Settings) -> None:
    if bool(settings.cluster_cert) != bool(settings.cluster_key):
        missing = "CLUSTER_KEY" if settings.cluster_cert else "CLUSTER_CERT"
        raise ConfigError(f"{missing}: unset; a certificate and its key go together")
    if not settings.cluster_url:
        return
    if settings.cluster_secret and (why := weakness(settings.cluster_secret)):
        raise ConfigError(f"CLUSTER_SECRET: too weak ({why}); make one with: openssl rand -base64 48")
    if settings.production and not settings.database_url:
        raise ConfigError(
            "DATABASE_URL: unset; the servers of a cluster share one database (CLUSTER_URL is set)"
        )


def check_secret(settings: Settings) -> None:
    """Raises `ConfigError` for a SECRET_KEY_BASE that prod refuses."""
    secret = settings.secret_key_base
    if not secret:
        if settings.production:
            raise ConfigError(
                f"SECRET_KEY_BASE: unset, and BITNEXUS_ENV=prod needs {MIN_SECRET_BYTES} bytes or more; "
                "make one with: openssl rand -base64 48"
            )
        return
    why = weakness(secret)
    if why and settings.production:
        raise ConfigError(
            f"SECRET_KEY_BASE: too weak for BITNEXUS_ENV=prod ({why}); make one with: openssl rand -base64 48"
        )


def signing_secret(settings: Settings) -> tuple[str, str]:
    """The HS256 key and where it came from; when none is set, dev generates one and keeps it in DATA_DIR.

    The file is readable by its owner alone. Raises `ConfigError` when it can't be read or written, or holds no strong key.
    """
    if settings.secret_key_base:
        return settings.secret_key_base, "environment"
    path = settings.data_dir / DEVELOPMENT_KEY_FILE
    try:
        if not path.exists():
            make_key(path)
        secret = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"DATA_DIR: can't read or write the development key {path} ({why})") from None
    if why := weakness(secret):
        raise ConfigError(
            f"DATA_DIR: the development key {path} is damaged ({why}); remove it, which makes all tokens invalid"
        )
    return secret, str(path)


def node_name(settings: Settings) -> str:
    """This server's name in the cluster: NODE_NAME, else bitnexus@ and the host name."""
    if settings.node_name:
        return settings.node_name
    return "bitnexus@" + (re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()) or "localhost")


def cluster_key(settings: Settings) -> bytes:
    """The key of the cluster, 32 bytes. Raises `ConfigError` when the development key can't be kept."""
    secret = settings.cluster_secret or signing_secret(settings)[0]
    return blake2b(
        secret.encode("utf-8", "surrogateescape"), digest_size=32, person=b"bitnexus nodes"
    ).digest()


def show(settings: Settings) -> list[Shown]:
    """Every variable with its value (secrets masked) and source, in the table's order."""
    lines: list[Shown] = []
    for each in VARIABLES:
        value = getattr(settings, each.attribute)
        source = settings.sources.get(each.name, "default")
        if each.name == "SECRET_KEY_BASE" and not value:
            path = settings.data_dir / DEVELOPMENT_KEY_FILE
            value, source = "set" if os.path.exists(path) else "", f"development key in {path}"
        if each.name == "DATABASE_URL" and not value:
            text, source = "(embedded PostgreSQL in DATA_DIR)", "default"
        elif each.name in URLS:
            text = mask_url(value)
        elif each.name == "CLUSTER_URL":
            text = ",".join(map(mask_url, value))
        elif each.secret:
            text = "********" if value else ""
        elif each.name == "SERVICES":
            text = ",".join(f"{name}={mask_url(url)}" for name, url in value)
        elif isinstance(value, tuple):
            text = ",".join(map(str, value))
        else:
            text = str(value)
        lines.append(Shown(each.name, text, source, each.meaning))
    return lines


def mask_url(url: str) -> str:
    """The URL with its password masked, for people and logs."""
    parts = urlsplit(url)
    password = parts.password
    masked = url.replace(f":{password}@", ":********@") if password else url
    if "password=" in parts.query:
        masked = masked.replace(parts.query, "********")
    return masked


_current: Settings | None = None


def current() -> Settings:
    """The settings in force: what `use` was given, else the environment's, read once."""
    global _current
    if _current is None:
        _current = load()
    return _current


def use(settings: Settings | None) -> None:
    """Put these settings in force for the actors started from now on; None goes back to the environment."""
    global _current
    _current = settings
