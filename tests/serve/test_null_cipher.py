"""What is read out of /proc/crypto, in the kernel's own form."""

from pathlib import Path

import pytest

from proxy.serve.null_cipher import null_cipher_in_use

BLOCK = """\
name         : {name}
driver       : {name}-generic
module       : kernel
priority     : 100
refcnt       : {users}
selftest     : passed
internal     : no
type         : skcipher

"""


def crypto(proc: Path, *rows: tuple[str, int]) -> Path:
    """A procfs that lists these algorithms, each with so many users and one."""
    (proc / "crypto").write_text("".join(BLOCK.format(name=name, users=users) for name, users in rows))
    return proc


IDLE = (("xts(aes)", 3), ("ecb(cipher_null)", 1), ("digest_null", 12), ("cipher_null", 1), ("compress_null", 2))


@pytest.mark.parametrize("rows", [(), IDLE, (("xts(aes)", 21),)])
def test_nobody_uses_it(tmp_path: Path, rows: tuple[tuple[str, int], ...]) -> None:
    assert null_cipher_in_use(crypto(tmp_path, *rows)) is False


@pytest.mark.parametrize(
    "name", ["ecb(cipher_null)", "cipher_null", "cbc(cipher_null)", "authenc(hmac(x),cipher_null)"]
)
@pytest.mark.parametrize("users", [2, 3, 10, 11])
def test_somebody_uses_it(tmp_path: Path, name: str, users: int) -> None:
    assert null_cipher_in_use(crypto(tmp_path, *IDLE, (name, users))) is True
    assert null_cipher_in_use(crypto(tmp_path, (name, users), *IDLE)) is True


def test_a_kernel_that_does_not_say(tmp_path: Path) -> None:
    assert null_cipher_in_use(tmp_path) is None


def test_this_kernel_has_that_form() -> None:
    listed = Path("/proc/crypto").read_text()
    assert listed.count("\nrefcnt ") == listed.count("\n\n") == listed.count("\nname ") + 1 > 1
