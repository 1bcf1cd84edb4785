"""One gateway at a time on a state directory. What its workers share in memory, budgets above all, would be counted by
each gateway anew: two of them could protect with a key twice what it may.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from proxy.kms.private_file import open_lock
from proxy.kms.service import KeysError

NAME = "serve.lock"
_DIGITS = 20


def take(state: Path) -> int:
    """Locks the directory `state` for this process and the children it forks; does not wait. The kernel frees it when
    the last of them has closed the descriptor that is returned, or died.

    Raises KeysError: another gateway has it, or the lock cannot be made.
    """
    fd = open_lock(state / NAME)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, _DIGITS, 0).decode(errors="replace").strip()
        os.close(fd)
        if not isinstance(error, BlockingIOError):
            raise KeysError(f"{state / NAME}: {(error.strerror or 'i/o error').lower()}; it cannot be locked") from None
        raise KeysError(
            f"state directory {state}: another wxgate serves from it (process {holder or '?'}, or workers it left "
            "behind, which end by themselves); stop it, or give this one a state directory of its own"
        ) from None
    with suppress(OSError):  # the number is for the message only
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd
