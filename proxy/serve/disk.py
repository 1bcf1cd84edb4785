"""Whether the state directory's disk is what `region: {full_disk_encryption: ...}` asks for."""

from __future__ import annotations

from pathlib import Path

from proxy.serve.block_device import Device, encrypted
from proxy.serve.settings_region import DiskDemand


def disk_problem(demand: DiskDemand, state: Path, sys: Path = Path("/sys")) -> str:
    """What forbids to start, as a sentence; empty if nothing does. `sys`: where sysfs is mounted."""
    if not demand.required:
        return ""
    try:
        if encrypted(Device.of(state), sys):
            return ""
    except OSError:
        pass
    return (
        f"state directory {state}: its disk is not seen to be encrypted (no dm-crypt under it), and the region "
        "asks for it; put it on a LUKS volume, or, if the provider encrypts the volume, write full_disk_encryption: "
        "{attested: REASON}"
    )
