"""All checks, one after the other; one that cannot be done does not keep the others from being done."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.crypto.data_key import KeyMismatchError
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.service import KeysError
from proxy.kms.service_set import ServiceSet
from proxy.serve.doctor import keys, machine
from proxy.serve.doctor.clock import clock
from proxy.serve.doctor.finding import Finding, now
from proxy.serve.settings import Settings


def examine(
    settings: Settings, services: ServiceSet, file: KeyringFile, at: float, clock_source: str = ""
) -> Iterator[Finding]:
    """What is found, check by check. `at`: Unix seconds. `clock_source`: see `clock`."""
    yield from machine.files(settings)
    yield from keys.services(services)
    try:
        document = file.document()
        entries = document.entries
    except (KeysError, KeyMismatchError) as error:
        yield now("keyring", str(error), keys.keyring_fix(settings))
    else:
        yield from keys.present(settings, services, entries)
        yield from keys.open_well(settings, services, document)
        yield from keys.keks_here(settings, services, document)
        yield from keys.worn(entries, settings.keys.limits, at)
        yield from keys.replacing(entries, at)
        yield from keys.former(settings, services, entries)
        yield from keys.backups(services, entries)
        yield from keys.shreddings(services, document)
        yield from keys.exchange(settings, file)
    yield from machine.certificates(settings, at)
    yield from machine.memory()
    yield from machine.disk(settings)
    yield from clock(settings, clock_source)
