"""Whether the state directory's disk is what `region: {full_disk_encryption: ...}` asks for."""

from __future__ import annotations

from pathlib import Path

from proxy.serve.block_device import Device, encrypted
from proxy.serve.null_cipher import null_cipher_in_use
from proxy.serve.settings_region import DiskDemand

_WAY_OUT = "full_disk_encryption: {attested: REASON}"


def disk_problem(demand: DiskDemand, state: Path, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> str:
    """What forbids to start, as a sentence; empty if nothing does. `sys`, `proc`: where they are mounted."""
    if not demand.required:
        return ""
    if not _is_encrypted(state, sys):
        return (
            f"state directory {state}: its disk is not seen to be encrypted (no dm-crypt under it), and the region "
            "asks for it; put it on a LUKS volume, or, if the provider encrypts the volume, write "
            f"{_WAY_OUT}"
        )
    if null_cipher_in_use(proc):
        return (
            f"state directory {state}: its disk may not be encrypted, for something on this machine uses the kernel's "
            "null cipher (/proc/crypto) and only root is told what; look whether `dmsetup table` says cipher_null, and "
            f"if it does not (IPsec may use it, too) write {_WAY_OUT}"
        )
    return ""


def _is_encrypted(state: Path, sys: Path) -> bool:
    try:
        return encrypted(Device.of(state), sys)
    except OSError:
        return False
