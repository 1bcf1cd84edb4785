"""Files as commands read them."""

from pathlib import Path

import pytest

from proxy.cli.policy_files import UnreadableError, load_policy, load_samples, read_file
from proxy.source.problem import Problems


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(UnreadableError, match="has more than 4 bytes"):
        read_file(path, 4)


def test_a_policy_may_extend_itself_by_name_only_into_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\nextends: [p.yaml]\n")
    with pytest.raises(Problems, match="extends-circle"):
        load_policy(path)


def test_samples_are_looked_up_beside_the_policy_and_missing_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\ntests: [{sample: s/a, expect: {}}, {sample: s/b, expect: {}}]\n")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").write_bytes(b"x")
    assert load_samples(load_policy(path), path) == {"s/a": b"x"}
