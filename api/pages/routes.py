"""Static files: the demo at `/` and the operators' console at `/admin`, with their shared modules and libraries.

`FOLDERS` lists what is served. Files are cached, and read again when they change; a path can't leave its folder.
"""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path

from api.http.content_coding import Representation
from api.http.request import Headers, Response
from runtime.http.target import decoded

HERE = Path(__file__).parent

FOLDERS: tuple[tuple[str, Path], ...] = (
    ("/admin", HERE / "console"),
    ("/shared", HERE / "shared"),
    ("/vendor", HERE / "vendor"),
    ("", HERE / "demo"),
)

LONGEST, DEEPEST = 200, 4  # characters and slashes of a path that may name a file

POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)

mimetypes.add_type("text/javascript", ".mjs")
mimetypes.add_type("text/javascript", ".js")


@dataclass(frozen=True, slots=True)
class _File:
    changed: int
    content: Representation


class Pages:
    """Finds the file of a path."""

    def __init__(self, folders: tuple[tuple[str, Path], ...] = FOLDERS) -> None:
        self._folders = [(prefix, folder.resolve()) for prefix, folder in folders]
        self._files: dict[Path, _File] = {}

    def find(self, path: str, headers: dict[bytes, bytes]) -> Response | None:
        """The response with the file of this percent-encoded path; None if there is none."""
        if len(path) > LONGEST:
            return None
        path = decoded(path).decode("utf-8", "replace")
        # Resolving costs a system call for each segment.
        if "\x00" in path or "//" in path or path.count("/") > DEEPEST:
            return None
        for prefix, folder in self._folders:
            if path == prefix or path.startswith(prefix + "/"):
                file = self._file(folder, path[len(prefix) :].strip("/"))
                if file is not None:
                    return file.content.response(headers)
        return None

    def _file(self, folder: Path, name: str) -> _File | None:
        try:
            place = (folder / (name or "index.html")).resolve()
            if not place.is_relative_to(folder) or not place.is_file():
                return None
            changed = place.stat().st_mtime_ns
            known = self._files.get(place)
            if known is not None and known.changed == changed:
                return known
            body = place.read_bytes()
        except (OSError, ValueError):
            return None
        made = self._files[place] = _File(changed, Representation(body, _headers(place)))
        return made


def _headers(place: Path) -> Headers:
    kind = mimetypes.guess_type(place.name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return [
        (b"content-type", kind.encode()),
        (b"cache-control", b"no-cache"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", POLICY),
        (b"referrer-policy", b"no-referrer"),
    ]
