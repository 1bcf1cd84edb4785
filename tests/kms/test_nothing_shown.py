"""Whatever of a gateway's keys is printed, at any depth, shows names: settings, services, keyring, cache, handles."""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from proxy.crypto.data_key import Purpose, hkdf
from proxy.kms.budget import SharedBudget
from proxy.kms.keystore import keyring_file_of, open_keyring_in_use
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing
from proxy.kms.service import Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.services import open_services
from proxy.serve.settings import load_settings
from tests.crypto.test_secret_bytes import assert_hidden, forms
from tests.kms.conftest import ACME, Clock
from tests.kms.providers import PROVIDERS, Provider
from tests.support.installation import Installation

RANDOM = secrets.token_bytes
_DEEPEST = 12


def shown(value: object, depth: int = 0, seen: set[int] | None = None) -> Iterator[str]:
    """`repr` of `value` and of everything it holds, through attributes and containers of the project's own objects."""
    seen = set() if seen is None else seen
    if id(value) in seen or depth > _DEEPEST:
        return
    seen.add(id(value))
    yield repr(value)
    if isinstance(value, Mapping):
        inner: list[object] = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(value)
    elif type(value).__module__.startswith("proxy."):
        names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        inner = [*vars(value).values()] if hasattr(value, "__dict__") else []
        inner += [getattr(value, name) for name in names if hasattr(value, name)]
    else:
        return
    for each in inner:
        yield from shown(each, depth + 1, seen)


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Provider]:
    made: Callable[[Path], Provider] = PROVIDERS[request.param]
    (tmp_path / "service").mkdir()
    running = made(tmp_path / "service")
    yield running
    running.close()


def test_no_data_key_in_use_is_shown(provider: Provider, state: Path, clock: Clock, budget: SharedBudget) -> None:
    services = ServiceSet(provider.open())
    file = keyring_file_of(services, state, RANDOM)
    make_missing(file, services, [Slot(ACME, "default", use) for use in Purpose], clock.now(), RANDOM)
    deks = [bytes(services.unwrap(entry.slot, entry.wrapped)) for entry in file.read()]
    document = file.document()

    async def used() -> list[str]:
        keyring = open_keyring_in_use(services, state, KeyLimits(), budget, clock, RANDOM)
        for purpose in Purpose:
            key = await keyring.active(ACME, "default", purpose)
            key.seal(bytes(24), b"", b"")
            key.seal_equal(b"", b"")
        found = [*shown(keyring), *shown(services), *shown(file), *shown(document)]
        keyring.close()
        return found

    text = "\n".join(asyncio.run(used()))
    assert text.count("DataKey(") >= 2, "the keys are among it"
    for dek in deks:
        assert_hidden(text, dek)


def test_neither_unlock_key_nor_kek_of_the_embedded_service_is_shown(state: Path) -> None:
    unlock, kek = RANDOM(32), RANDOM(32)
    kms = LocalKms(state, unlock, RANDOM)
    kms.import_kek(ACME, kek)
    kms.wrap(Slot(ACME, "default", Purpose.DATA), RANDOM(32))
    text = "\n".join(shown(kms))
    for key in (unlock, kek, bytes(hkdf(unlock, b"wxgate/1 kek seal", 32))):
        assert not [form for form in forms(key) if form in text]


def test_no_secret_of_the_settings_is_shown() -> None:
    with Installation() as files:
        settings = load_settings(files.config)
        text = "\n".join(shown(settings.keys)) + "\n".join(shown(open_services(settings.keys, settings.state, RANDOM)))
        assert "LocalSettings(" in text, "they are among it"
        unlock = files.secrets["unlock"]
        assert unlock not in text and not [form for form in forms(bytes.fromhex(unlock)) if form in text]
