"""Run as a script, between fork and exec of a PostgreSQL binary: drops root and ties the child's life to its parent's.

    python -I -S launcher.py PARENT_PID UID GID DIRECTORY PROGRAM [ARGUMENT ...]

When the parent dies, even of SIGKILL, the kernel sends the program SIGINT, which a postmaster answers with a
fast shutdown. The request must come after setuid, which clears it, and before exec, which keeps it. Uses
nothing but the standard library, since it runs before anything else may be trusted to be readable.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    parent, uid, gid = (int(value) for value in argv[1:4])
    directory, program, arguments = argv[4], argv[5], argv[5:]
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    os.chdir(directory)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent died before the program could start")
    own = os.environ.copy()
    own.pop("LD_LIBRARY_PATH", None)  # that was for this interpreter
    os.execve(program, arguments, own)


if __name__ == "__main__":
    main(sys.argv)
