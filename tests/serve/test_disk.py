"""What `region: {full_disk_encryption: ...}` asks, what refuses to start, and what stands in the audit log."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.serve.disk import disk_problem
from proxy.serve.settings import load_settings
from proxy.serve.settings_region import DiskDemand
from tests.serve.test_block_device import LUKS
from tests.serve.test_null_cipher import IDLE, crypto
from tests.support.installation import Installation
from tests.support.processes import Gateway

REQUIRED = DiskDemand(required=True)


def tree(root: Path, path: Path, uuid: str) -> Path:
    """A sysfs in which the disk of `path` is a mapping with this uuid."""
    number = os.stat(path).st_dev
    place = root / "devices" / "dm-0"
    (place / "dm").mkdir(parents=True)
    (place / "dm" / "uuid").write_text(uuid)
    (root / "dev" / "block").mkdir(parents=True)
    (root / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}").symlink_to(place)
    return root


def test_an_encrypted_disk_is_what_is_asked_for(tmp_path: Path) -> None:
    sysfs = tree(tmp_path / "sys", tmp_path, LUKS)
    assert disk_problem(REQUIRED, tmp_path, sysfs, crypto(tmp_path, *IDLE)) == ""
    assert disk_problem(REQUIRED, tmp_path, sysfs, tmp_path / "nowhere") == ""  # the doctor tells of it


def test_a_machine_that_uses_the_null_cipher_is_refused_with_the_way_out(tmp_path: Path) -> None:
    sysfs = tree(tmp_path / "sys", tmp_path, LUKS)
    said = disk_problem(REQUIRED, tmp_path, sysfs, crypto(tmp_path, *IDLE, ("ecb(cipher_null)", 2)))
    assert str(tmp_path) in said and "dmsetup table" in said and "attested" in said


@pytest.mark.parametrize("uuid", ["LVM-x", ""])
def test_another_disk_is_refused_with_the_way_out(tmp_path: Path, uuid: str) -> None:
    said = disk_problem(REQUIRED, tmp_path, tree(tmp_path / "sys", tmp_path, uuid))
    assert str(tmp_path) in said and "attested" in said


def test_a_directory_that_is_not_there_and_a_tree_that_is_not_there_are_refused(tmp_path: Path) -> None:
    sysfs = tree(tmp_path / "sys", tmp_path, LUKS)
    assert disk_problem(REQUIRED, tmp_path / "nowhere", sysfs)
    assert disk_problem(REQUIRED, tmp_path, tmp_path / "nowhere")


@pytest.mark.parametrize("demand", [DiskDemand(), DiskDemand(attested="volume vol-1")])
def test_nothing_is_asked_of_the_machine_otherwise(tmp_path: Path, demand: DiskDemand) -> None:
    assert disk_problem(demand, tmp_path, tmp_path / "nowhere") == ""


@pytest.fixture
def files() -> Iterator[Installation]:
    with Installation() as installation:
        yield installation


def test_the_long_form_of_a_region(files: Installation) -> None:
    assert load_settings(files.config).disk == DiskDemand()
    files.edit("region: cn", "region: {code: cn, full_disk_encryption: required}")
    settings = load_settings(files.config)
    assert (settings.disk, {owner.region for owner in settings.owners}) == (REQUIRED, {"cn"})
    files.edit("full_disk_encryption: required", "full_disk_encryption: {attested: 'volume vol-1'}")
    assert load_settings(files.config).disk == DiskDemand(attested="volume vol-1")
    files.edit(", full_disk_encryption: {attested: 'volume vol-1'}", "")
    assert load_settings(files.config).disk == DiskDemand()


def test_wxgate_does_not_start_on_a_disk_that_is_not_seen_to_be_encrypted(files: Installation) -> None:
    settings = load_settings(files.config)
    if disk_problem(REQUIRED, settings.state) == "":
        pytest.fail("the test's own disk is encrypted: run it where temporary files lie in clear")
    files.edit("region: cn", "region: {code: cn, full_disk_encryption: required}")
    result = files.serve()
    assert result.returncode == 1 and "not seen to be encrypted" in result.stderr


class _Attested(Gateway):
    def start_gateway(self) -> None:
        text = self.config.read_text()
        long = "region: {code: cn, full_disk_encryption: {attested: 'volume vol-1'}}"
        self.config.write_text(text.replace("region: cn", long, 1))
        super().start_gateway()


def test_the_deployer_s_word_stands_in_the_audit_log_of_every_worker() -> None:
    with _Attested(workers=2) as gateway:
        for slot in range(2):
            path = gateway.directory / "state" / "audit" / f"worker-{slot}.jsonl"
            records = [json.loads(line) for line in path.read_text().splitlines()]
            (word,) = [record for record in records if record["event"] == "disk_attested"]
            assert word["reason"] == "volume vol-1" and word["revision"]
