"""What is told encrypted on trees made like sysfs: links, slaves, partitions, and trees that are broken."""

import os
from pathlib import Path

import pytest

from proxy.serve.block_device import Device, encrypted

LUKS = "CRYPT-LUKS2-0f3d2c1b5a4e4d0c9b8a7f6e5d4c3b2a-state"


class Sysfs:
    """Makes devices under `<root>/devices`, with the links of /sys/dev/block."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "dev" / "block").mkdir(parents=True)

    def add(self, name: str, minor: int, *, uuid: str = "", on: tuple[str, ...] = (), parent: str = "") -> Device:
        place = self.root / "devices" / parent / name
        place.mkdir(parents=True)
        (self.root / "dev" / "block" / f"8:{minor}").symlink_to(f"../../devices/{parent}{'/' * bool(parent)}{name}")
        if parent:
            (place / "partition").write_text("1\n")
        else:
            (place / "slaves").mkdir()
        if uuid:
            (place / "dm").mkdir()
            (place / "dm" / "uuid").write_text(uuid + "\n")
        for other in on:
            (place / "slaves" / Path(other).name).symlink_to(self.root / "devices" / other)
        return Device(8, minor)


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


def test_a_plain_disk_and_its_partition_are_not(sysfs: Sysfs) -> None:
    disk, part = sysfs.add("sda", 0), sysfs.add("sda1", 1, parent="sda")
    assert not encrypted(disk, sysfs.root) and not encrypted(part, sysfs.root)


@pytest.mark.parametrize(
    "uuid",
    [
        LUKS,
        "CRYPT-LUKS1-x",
        "CRYPT-PLAIN-swap",
        *(f"CRYPT-{kind}-x" for kind in ("LOOPAES", "TCRYPT", "BITLK", "FVAULT2")),
    ],
)
def test_a_dm_crypt_mapping_is(sysfs: Sysfs, uuid: str) -> None:
    sysfs.add("sda", 0)
    assert encrypted(sysfs.add("dm-0", 1, uuid=uuid, on=("sda",)), sysfs.root)


@pytest.mark.parametrize(
    "uuid",
    [
        "LVM-abc",
        "mpath-CRYPT-x",
        "crypt-x",
        "SUBDEV-CRYPT-LUKS2-x",
        "X",
        "CRYPT-INTEGRITY-x",
        "CRYPT-VERITY-x",
        "CRYPT-SUBDEV-x",
        "CRYPT-LUKS2",
    ],
)
def test_another_mapping_is_not(sysfs: Sysfs, uuid: str) -> None:
    sysfs.add("sda", 0)
    assert not encrypted(sysfs.add("dm-0", 1, uuid=uuid, on=("sda",)), sysfs.root)


def test_a_volume_on_luks_is_and_so_is_a_partition_of_it(sysfs: Sysfs) -> None:
    sysfs.add("sda", 0)
    sysfs.add("sda1", 1, parent="sda")
    sysfs.add("dm-0", 2, uuid=LUKS, on=("sda/sda1",))
    assert encrypted(sysfs.add("dm-1", 3, uuid="LVM-x", on=("dm-0",)), sysfs.root)
    assert encrypted(sysfs.add("dm-1p1", 4, parent="dm-1"), sysfs.root)


def test_integrity_alone_is_not_and_on_luks_is(sysfs: Sysfs) -> None:
    sysfs.add("sda", 0)
    sysfs.add("dm-0", 1, uuid="CRYPT-INTEGRITY-x", on=("sda",))
    assert not encrypted(sysfs.add("dm-1", 2, uuid="CRYPT-VERITY-x", on=("dm-0",)), sysfs.root)
    sysfs.add("dm-2", 3, uuid=LUKS, on=("sda",))
    assert encrypted(sysfs.add("dm-3", 4, uuid="CRYPT-INTEGRITY-x", on=("dm-2",)), sysfs.root)


def test_every_disk_of_an_array_counts(sysfs: Sysfs) -> None:
    for minor, name in enumerate(("sda", "sdb")):
        sysfs.add(name, minor)
        sysfs.add(f"dm-{minor}", 10 + minor, uuid=LUKS, on=(name,))
    assert encrypted(sysfs.add("md0", 20, on=("dm-0", "dm-1")), sysfs.root)
    assert not encrypted(sysfs.add("md1", 21, on=("dm-0", "sdb")), sysfs.root)


def test_luks_on_top_of_a_plain_array_is(sysfs: Sysfs) -> None:
    sysfs.add("sda", 0)
    sysfs.add("md0", 1, on=("sda",))
    assert encrypted(sysfs.add("dm-0", 2, uuid=LUKS, on=("md0",)), sysfs.root)


def test_what_cannot_be_found_out_is_not(sysfs: Sysfs) -> None:
    assert not encrypted(Device(0, 42), sysfs.root)  # tmpfs, overlay, btrfs
    assert not encrypted(Device(8, 9), sysfs.root)
    assert not encrypted(Device(8, 9), sysfs.root / "nowhere")
    (sysfs.root / "dev" / "block" / "8:7").symlink_to("8:7")
    assert not encrypted(Device(8, 7), sysfs.root)


def test_devices_under_each_other_in_a_ring_end(sysfs: Sysfs) -> None:
    sysfs.add("md0", 0, on=("md1",))
    ring = sysfs.add("md1", 1, on=("md0",))
    assert not encrypted(ring, sysfs.root)


def test_the_device_of_a_path_is_its_file_system_s(tmp_path: Path) -> None:
    found, number = Device.of(tmp_path), os.stat(tmp_path).st_dev
    assert os.makedev(found.major, found.minor) == number
