"""A small disk that can be filled: a tmpfs if mounting is allowed, else a limit on the size of files.

The limit (RLIMIT_FSIZE of the processes that use the directory) makes writes fail as on a full disk, though with another errno.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from pathlib import Path

from actors.storage.postgres.process import living_in

MEGABYTES = 400
LIMIT = 1 << 20  # bytes of a file that may be written while the disk counts as full


class Disk:
    """The directory `folder`, which this creates. `close` unmounts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o755)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,mode=755", "tmpfs", str(folder)]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self._filler = folder / "filler"

    def fill(self, data: Path) -> None:
        """Fills it to the last byte. `data` is the data directory whose processes are limited if nothing is mounted."""
        if not self.mounted:
            self._limit(data, LIMIT)
            return
        with open(self._filler, "wb", buffering=0) as filler:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        filler.write(b"x" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC

    def free(self, data: Path) -> None:
        """Frees the space again."""
        if self.mounted:
            self._filler.unlink(missing_ok=True)
        else:
            self._limit(data, resource.RLIM_INFINITY)

    def close(self) -> None:
        """Unmounts it."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)
            self.mounted = False

    @staticmethod
    def _limit(data: Path, size: int) -> None:
        for pid in living_in(data):
            try:
                _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))
            except ProcessLookupError:
                continue
            except PermissionError as error:
                raise AssertionError(f"neither mount nor prlimit is allowed to uid {os.geteuid()}") from error
