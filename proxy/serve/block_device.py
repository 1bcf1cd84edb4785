"""Whether what lies on a block device is encrypted by the kernel (dm-crypt), read from sysfs. Linux.

Sources: Documentation/ABI/testing/sysfs-block and sysfs-block-dm of the kernel. cryptsetup gives every mapping it makes
a uuid that begins with CRYPT- and its type (CRYPT-LUKS2-..., CRYPT-PLAIN-...), which the kernel shows as dm/uuid. Its
types INTEGRITY and VERITY check what lies there and encrypt nothing; SUBDEV is a part of another mapping. The uuid does
not tell the cipher: see null_cipher.py.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_ENCRYPTING = re.compile(r"CRYPT-(LUKS1|LUKS2|PLAIN|LOOPAES|TCRYPT|BITLK|FVAULT2)-", re.ASCII)
_DEEPEST = 16  # devices under devices; a loop in a broken tree must end


@dataclass(frozen=True, slots=True)
class Device:
    """A block device by its numbers."""

    major: int
    minor: int

    @classmethod
    def of(cls, path: Path) -> Device:
        """The one that the file system of `path` lies on. Raises OSError.

        File systems that span devices or have none (btrfs, ZFS, overlay, tmpfs, network) have major 0, which no block
        device has.
        """
        number = path.stat().st_dev
        return cls(os.major(number), os.minor(number))

    def directory(self, sys: Path) -> Path:
        """Its directory in sysfs. Raises OSError if there is none."""
        return (sys / "dev" / "block" / f"{self.major}:{self.minor}").resolve(strict=True)


def encrypted(device: Device, sys: Path = Path("/sys")) -> bool:
    """Whether every byte written to `device` goes through dm-crypt before it reaches a disk. False if that cannot be
    found out. `sys`: where sysfs is mounted."""
    try:
        return _is_encrypted(device.directory(sys), _DEEPEST)
    except (OSError, RuntimeError):  # RuntimeError: a loop of symbolic links
        return False


def _is_encrypted(directory: Path, depth: int) -> bool:
    """The device itself, or all of the devices it is made of: LVM and RAID over LUKS."""
    if depth == 0:
        return False
    uuid = directory / "dm" / "uuid"
    if uuid.is_file() and _ENCRYPTING.match(uuid.read_text()):
        return True
    if (directory / "partition").is_file():  # the disk's directory holds those of its partitions
        return _is_encrypted(directory.parent, depth - 1)
    slaves = directory / "slaves"
    below = [each.resolve(strict=True) for each in slaves.iterdir()] if slaves.is_dir() else []
    return bool(below) and all(_is_encrypted(each, depth - 1) for each in below)
