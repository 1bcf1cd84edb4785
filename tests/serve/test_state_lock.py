"""The lock of a state directory between real processes: who has it, who is told so, and when it is free again."""

import os
import signal
from pathlib import Path

import pytest

from proxy.kms.service import KeysError
from proxy.serve.state_lock import NAME, take


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


def test_a_second_one_is_told_who_has_it_and_comes_in_afterwards(state: Path) -> None:
    first = take(state)
    for _ in range(2):  # being refused changes nothing
        with pytest.raises(KeysError, match=rf"state directory {state}: another wxgate .*process {os.getpid()},"):
            take(state)
    os.close(first)
    os.close(take(state))


def test_a_forked_process_holds_it_until_it_is_killed(state: Path) -> None:
    first = take(state)
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    os.close(first)
    with pytest.raises(KeysError, match="another wxgate"):
        take(state)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(take(state))


def test_another_program_does_not_inherit_it(state: Path) -> None:
    fd = take(state)
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_an_unreadable_number_and_other_files_do_not_matter(state: Path) -> None:
    (state / NAME).write_bytes(b"\xff" * 100)
    (state / NAME).chmod(0o600)
    os.close(take(state))
    assert (state / NAME).read_text() == f"{os.getpid()}\n"


def test_a_place_that_is_not_ours_is_refused(state: Path) -> None:
    (state / NAME).symlink_to("elsewhere")
    with pytest.raises(KeysError, match=NAME):
        take(state)
    (state / NAME).unlink()
    state.chmod(0o755)
    with pytest.raises(KeysError, match="chmod 700"):
        take(state)
    with pytest.raises(KeysError, match="no such file"):
        take(state / "nowhere")
