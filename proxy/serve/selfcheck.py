"""What must hold before wxgate listens: known-answer tests of every cipher, keys at hand, certificates in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import product

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from proxy.crypto.data_key import Purpose, hkdf
from proxy.crypto.ff1 import Alphabet, Ff1
from proxy.crypto.xaes import Xaes256Gcm
from proxy.edge.listener_settings import KeyPair
from proxy.kms.keyring_format import KeyState
from proxy.serve.assemble import Loaded
from proxy.serve.certificates import CertificateError, check_chain, load_chain
from proxy.serve.disk import disk_problem
from proxy.serve.settings import Settings
from proxy.wechat import signature
from proxy.wechat.envelope import EnvelopeKey, seal_envelope


def problems(loaded: Loaded) -> list[str]:
    """Everything that forbids to listen, as sentences; empty if nothing does."""
    settings = loaded.settings
    return [*known_answers(), *_keys(loaded), *_certificates(settings), *_disk(settings)]


def known_answers() -> Iterator[str]:
    """One sentence for each cipher that does not give its published answer."""
    for name, test in (
        ("XAES-256-GCM", _xaes),
        ("AES-SIV", _siv),
        ("HKDF-SHA-256", _hkdf),
        ("FF1", _ff1),
        ("WeChat envelope", _envelope),
    ):
        if not _passes(test):
            yield f"known-answer test of {name} failed"


def _passes(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except Exception:  # noqa: BLE001 - a cipher that the machine's OpenSSL does not offer raises whatever it likes
        return False


def _xaes() -> bool:
    """C2SP XAES-256-GCM, first test vector of the specification."""
    sealed = Xaes256Gcm(b"\x01" * 32).encrypt(b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM", b"")
    return sealed.hex() == "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"


def _siv() -> bool:
    """RFC 5297, appendix A.1."""
    key = bytes.fromhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    data = bytes.fromhex("101112131415161718191a1b1c1d1e1f2021222324252627")
    sealed = AESSIV(key).encrypt(bytes.fromhex("112233445566778899aabbccddee"), [data])
    return sealed.hex() == "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"


def _hkdf() -> bool:
    """RFC 5869, appendix A.3: no salt, no info."""
    return hkdf(b"\x0b" * 22, b"", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def _ff1() -> bool:
    """NIST SP 800-38G, FF1 sample 7: AES-256, ten digits, no tweak."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3cef4359d8d580aa4f7f036d6f04fc6a94")
    return Ff1(key).encrypt(Alphabet("0123456789"), "0123456789", b"") == "6657667009"


def _envelope() -> bool:
    """The encrypted reply printed in WeChat's documentation of message push."""
    key = EnvelopeKey.from_text("A" * 43)
    sealed = seal_envelope(key, b'{"demo_resp":"good luck"}', "wxba5fad812f8e6fb9", b"707722b803182950")
    signed = signature.sign("AAAAA", "1713424427", "415670741", sealed)
    return signed == "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1"


def _keys(loaded: Loaded) -> Iterator[str]:
    active = (age for age in loaded.keys.ages(0.0) if age.state is KeyState.ACTIVE)
    have = {(age.owner, age.group, age.purpose) for age in active}
    for owner, group in product(loaded.settings.owners, loaded.settings.groups):
        if missing := [purpose.value for purpose in Purpose if (owner, group, purpose) not in have]:
            where = f"tenant {owner.tenant}, region {owner.region}, group {group}"
            command = f"wxgate keys init --config {loaded.settings.file}"
            yield f"no active key ({', '.join(missing)}) for {where}: run {command}"


def _disk(settings: Settings) -> Iterator[str]:
    if problem := disk_problem(settings.disk, settings.state):
        yield problem


def key_pairs(settings: Settings) -> Iterator[KeyPair]:
    """Every certificate the listeners show."""
    for listener in settings.listeners:
        yield listener.tls.default
        yield from listener.tls.names.values()


def _certificates(settings: Settings) -> Iterator[str]:
    for pair in key_pairs(settings):
        try:
            chain = load_chain(pair.certificate.read_bytes())
            found = check_chain(chain, pair.key.read_bytes(), datetime.now(UTC))
        except (CertificateError, OSError) as error:
            found = [str(error)]
        for problem in found:
            yield f"certificate {pair.certificate}: {problem}"
