"""Secrets that sign tokens: which are too weak, and the file of one that a development server makes for itself."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import Final

MIN_SECRET_BYTES: Final = 32
WEAK_WORDS: Final = (
    "secret",
    "changeme",
    "change_me",
    "your_secret_key",
    "password",
    "development",
    "example",
)


def weakness(secret: str) -> str:
    """Why this secret is too weak to sign tokens with, or "" when it is strong enough."""
    size = len(secret.encode("utf-8", "surrogateescape"))
    if size < MIN_SECRET_BYTES:
        return f"{size} bytes, {MIN_SECRET_BYTES} needed"
    if len(set(secret)) < 10:
        return "too few different characters"
    lowered = secret.lower()
    for word in WEAK_WORDS:
        if lowered.startswith(word):
            return f"starts with {word!r}"
    return ""


def make_key(path: Path) -> None:
    """Writes a new key, readable by its owner alone, unless another process has.

    The file is there whole or not at all: a part of it would be a weak key. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # servers that start together must sign with the same key
        if path.exists():
            return
        staging = path.with_name(f".{path.name}")
        staging.unlink(missing_ok=True)  # of a process that was killed, or found the disk full
        with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        staging.rename(path)
    finally:
        os.close(folder)
