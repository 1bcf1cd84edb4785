"""What must hold before wxgate listens: each check is shown to fail on its own."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from proxy.crypto.xaes import Xaes256Gcm
from proxy.kms.budget import SharedBudget
from proxy.serve import selfcheck
from proxy.serve.assemble import Loaded, load
from proxy.serve.certificates import development_files
from proxy.serve.settings import load_settings
from tests.support.embedded import rotate_all
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with Installation() as it:
        yield it


@pytest.fixture(scope="module")
def budget() -> Iterator[SharedBudget]:
    budget = SharedBudget.create(64)
    yield budget
    budget.close()


@pytest.fixture(scope="module")
def loaded(installation: Installation, budget: SharedBudget) -> Loaded:
    return load(load_settings(installation.config), budget)


@pytest.fixture
def certs(installation: Installation) -> Iterator[Path]:
    directory = installation.directory / "certs"
    before = {path: path.read_bytes() for path in directory.iterdir()}
    yield directory
    for path, content in before.items():
        path.write_bytes(content)


def issue(
    directory: Path, *, at: datetime, days: int = 7, only: tuple[str, ...] = ("gateway.pem", "gateway.key")
) -> None:
    for file in development_files([], at, days):
        if file.name in only:
            (directory / file.name).write_bytes(file.data)


def test_a_sound_installation_has_no_problem(loaded: Loaded) -> None:
    assert selfcheck.problems(loaded) == []


def test_every_cipher_gives_its_published_answer() -> None:
    assert list(selfcheck.known_answers()) == []


def other_bytes(*_: object) -> bytes:
    return bytes(60)


def other_text(*_: object) -> str:
    return "0" * 40


FAULTS: dict[str, tuple[object, str, Callable[..., object]]] = {
    "XAES-256-GCM": (Xaes256Gcm, "encrypt", other_bytes),
    "HKDF-SHA-256": (selfcheck, "hkdf", other_bytes),
    "FF1": (selfcheck.Ff1, "encrypt", other_text),
    "WeChat envelope": (selfcheck.signature, "sign", other_text),
}


@pytest.mark.parametrize("cipher", FAULTS)
def test_a_cipher_that_answers_otherwise_is_named(cipher: str, loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*FAULTS[cipher])
    assert f"known-answer test of {cipher} failed" in selfcheck.problems(loaded)


def test_aes_siv_that_answers_otherwise_is_named(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def __init__(self, key: bytes) -> None:
            self.siv = AESSIV(key)

        def encrypt(self, data: bytes, _associated: object) -> bytes:
            return self.siv.encrypt(data, [])

    monkeypatch.setattr(selfcheck, "AESSIV", Other)
    assert "known-answer test of AES-SIV failed" in selfcheck.problems(loaded)


def test_a_cipher_that_raises_is_named_as_well(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise InvalidTag

    monkeypatch.setattr(Xaes256Gcm, "encrypt", broken)
    assert "known-answer test of XAES-256-GCM failed" in selfcheck.problems(loaded)


def test_a_missing_key_is_named_with_the_command_that_makes_it(
    installation: Installation, budget: SharedBudget
) -> None:
    text = installation.config.read_text()
    installation.edit("tenant: acme", "tenant: other")
    found = selfcheck.problems(load(load_settings(installation.config), budget))
    installation.config.write_text(text)
    assert len(found) == 1
    where = "tenant other, region cn, group default"
    assert found[0].startswith("no active key (data, lookup) for " + where)
    assert found[0].endswith(f"run wxgate keys init --config {installation.config}")


def test_a_rotated_key_is_no_missing_key(installation: Installation, budget: SharedBudget) -> None:
    settings = load_settings(installation.config)
    rotate_all(settings)
    assert selfcheck.problems(load(settings, budget)) == []


def test_an_expired_certificate(loaded: Loaded, certs: Path) -> None:
    issue(certs, at=datetime.now(UTC) - timedelta(days=30))
    (problem, _) = selfcheck.problems(loaded)  # it serves two listeners
    assert problem.startswith(f"certificate {certs}/gateway.pem: certificate 1 (")
    assert "expired on" in problem


def test_a_key_of_another_certificate(loaded: Loaded, certs: Path) -> None:
    issue(certs, at=datetime.now(UTC), only=("gateway.key",))
    problem = f"certificate {certs}/gateway.pem: private key does not belong to the leaf certificate"
    assert selfcheck.problems(loaded) == [problem] * 2


def test_a_certificate_file_that_holds_none(loaded: Loaded, certs: Path) -> None:
    (certs / "gateway.pem").write_text("words")
    assert "holds no readable PEM certificate" in selfcheck.problems(loaded)[0]


def test_a_certificate_that_went_away(loaded: Loaded, certs: Path) -> None:
    (certs / "gateway.pem").unlink()
    assert "no such file" in selfcheck.problems(loaded)[0].lower()
