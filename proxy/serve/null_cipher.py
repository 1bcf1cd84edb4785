"""Whether the kernel's null cipher is in use: a dm-crypt mapping under it has a LUKS header and writes in clear. Linux.

The cipher of one mapping is told to root only (`dmsetup table`). What everybody may read is /proc/crypto, the
algorithms of the whole kernel: `refcnt` is 1 while nobody uses one and counts its users besides. Sources:
crypto/proc.c, crypto/crypto_null.c and drivers/md/dm-crypt.c of Linux.
"""

from __future__ import annotations

import re
from pathlib import Path

# ecb(cipher_null), which `cryptsetup --cipher null` asks for, cipher_null itself, and modes around it.
_NAME = re.compile(r"^name\s*:.*\bcipher_null\b", re.MULTILINE)
_USED = re.compile(r"^refcnt\s*:\s*(?!1$)\d", re.MULTILINE)


def null_cipher_in_use(proc: Path = Path("/proc")) -> bool | None:
    """Whether anybody on this machine uses it; None if the kernel does not say. `proc`: where procfs is mounted.

    Not only dm-crypt may: IPsec without encryption, and in some kernels whoever combines a cipher with a MAC.
    """
    try:
        listed = (proc / "crypto").read_text(errors="replace")
    except OSError:
        return None
    return any(_NAME.search(block) and _USED.search(block) for block in listed.split("\n\n"))
