"""The keys: whether they are there and open, how old and how much used they are, what backups could bring back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import product

from proxy.crypto.data_key import DataKey, KeyMismatchError, Purpose
from proxy.kms.following import to_follow
from proxy.kms.kek_file import FILE as KEK_FILE
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.redis_link import RedisDownError, RedisLink
from proxy.kms.service import KeysError, KeyServiceDownError, NoKekError, Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.shredded import Shredded
from proxy.kms.transitions import Entries
from proxy.ports import Owner
from proxy.serve.doctor.finding import Finding, fine, note, now, soon
from proxy.serve.settings import Settings

_NEARLY = 0.9  # of a budget or an age, without a successor
_REPLACING_DAYS = 30.0
_DAY = 86400.0
_NAMED = 8  # keys in one finding


def services(kms: ServiceSet) -> Iterator[Finding]:
    """Whether each answers."""
    for service in kms:
        begun = time.monotonic()
        try:
            service.check()
        except KeyServiceDownError as error:
            fix = "keys in memory serve on for `keys.cache.age` at most: docs/runbooks/kms-outage.md"
            yield now("key service", f"{service.name}: {error}", fix)
        except KeysError as error:
            yield now("key service", f"{service.name}: {error}", "see docs/runbooks/")
        else:
            yield fine("key service", f"{service.name} answers ({1000 * (time.monotonic() - begun):.0f} ms)")


def present(settings: Settings, kms: ServiceSet, entries: Entries) -> Iterator[Finding]:
    """An active key of each kind for whatever the routes and policies need: without one wxgate does not start."""
    active = {entry.slot for entry in entries if entry.state is KeyState.ACTIVE}
    missing = [
        slot for each in product(settings.owners, settings.groups, Purpose) if (slot := Slot(*each)) not in active
    ]
    init = f"`wxgate keys init --config {settings.file}`"
    first = {owner: _awaited(kms, owner) for owner in {slot.owner for slot in missing}}
    for slot in missing:
        fix = f"{first[slot.owner]}; then {init}" if first[slot.owner] else init
        yield now("key missing", f"there is no active key for {slot}", fix)
    if not missing:
        yield fine("key missing", "every tenant, region and group has its keys")


def _awaited(kms: ServiceSet, owner: Owner) -> str:
    """What comes before `init`. That a key service cannot say is told by `services`."""
    with suppress(KeysError):
        return kms.awaited(owner)
    return ""


def open_well(settings: Settings, kms: ServiceSet, document: Document) -> Iterator[Finding]:
    """Whether active keys open, one of each owner and purpose; the rest when it is needed."""
    tried: dict[tuple[object, object], Entry] = {}
    for entry in document.entries:
        if entry.state is KeyState.ACTIVE:
            tried.setdefault((entry.slot.owner, entry.slot.purpose), entry)
    for entry in tried.values():
        try:
            DataKey(kms.unwrap(entry.slot, entry.wrapped), entry.slot.purpose, entry.id)
        except NoKekError as error:
            fix = _fix_without_kek(settings, document, entry.slot.owner, [entry.id])
            yield now("key does not open", str(error), fix)
        except (KeysError, KeyMismatchError) as error:
            yield now("key does not open", str(error), "see docs/runbooks/lost-kek.md")


def keks_here(settings: Settings, kms: ServiceSet, document: Document) -> Iterator[Finding]:
    """Whether the embedded key service has the KEK of every key. That it cannot tell is told by `services`."""
    with suppress(KeysError):
        for (owner, version), ids in sorted(_without_kek(kms, document.entries).items()):
            path = settings.state / KEK_FILE
            text = (
                f"{len(ids)} keys of {owner.tenant}/{owner.region} are under KEK version {version}, which {path} lacks"
            )
            yield now("KEK missing", text, _fix_without_kek(settings, document, owner, ids))


def _fix_without_kek(settings: Settings, document: Document, owner: Owner, ids: list[bytes]) -> str:
    """What to do about keys whose KEK is not here. One that was shredded must not be brought back."""
    fix = kek_fix(settings)
    if all(each.owner != owner for each in document.shredded):
        return fix
    names = " ".join(key_id.hex() for key_id in ids[:_NAMED]) + (" …" if len(ids) > _NAMED else "")
    return (
        f"the tenant was shredded: if a machine made them that did not know it yet, `wxgate keys destroy {names}`; "
        f"only if the tenant began anew since, {fix}"
    )


def kek_fix(settings: Settings) -> str:
    """What to do about a KEK that is not here."""
    if settings.keys.redis is None:
        return f"restore {KEK_FILE}: docs/runbooks/lost-kek.md"
    return (
        f"copy {KEK_FILE} from the machine where `wxgate keys init`, `rewrap` or `import-kek` was run to "
        f"{settings.state / KEK_FILE}: docs/runbooks/several-machines.md"
    )


def keyring_fix(settings: Settings) -> str:
    """What to do about a keyring that cannot be read."""
    restore = "see docs/runbooks/restore-from-backup.md"
    return restore if settings.keys.redis is None else f"if it lacks a KEK, {kek_fix(settings)}; else {restore}"


def _without_kek(kms: ServiceSet, entries: Entries) -> dict[tuple[Owner, int], list[bytes]]:
    """The ids of the keys under each KEK that this machine should have and has not."""
    embedded = kms.embedded
    if embedded is None:
        return {}
    there = [e for e in entries if e.state is not KeyState.DESTROYED and e.wrapped.service == embedded.name]
    versions = {owner: embedded.kek_ids(owner) for owner in {entry.slot.owner for entry in there}}
    found: dict[tuple[Owner, int], list[bytes]] = {}
    for entry in there:
        owner, version = entry.slot.owner, entry.wrapped.kek_version
        if version not in versions[owner]:
            found.setdefault((owner, version), []).append(entry.id)
    return found


def worn(entries: Entries, limits: KeyLimits, at: float) -> Iterator[Finding]:
    """Data keys near the end of their age or budget for whom the gateway made no successor."""
    waiting = {entry.slot for entry in entries if entry.state is KeyState.PENDING}
    active = [e for e in entries if e.state is KeyState.ACTIVE and e.slot.purpose is Purpose.DATA]
    fix = "`wxgate keys rotate`; a running gateway does it by itself, so look why it did not"
    bad = False
    for entry in active:
        if entry.slot in waiting:
            continue
        name, age = f"{entry.id.hex()} ({entry.slot})", at - (entry.activated or entry.created)
        spent = max(entry.uses / limits.uses, entry.size / limits.size)
        if spent >= 1:
            yield now("key budget", f"{name} has used up its budget", fix)
        elif spent >= _NEARLY:
            yield soon("key budget", f"{name} has used {100 * spent:.0f} % of its budget", fix)
        if age > limits.rotate_after:
            yield soon("key age", f"{name} is {age / _DAY:.0f} days old, more than rotate_after", fix)
        bad = bad or spent >= _NEARLY or age > limits.rotate_after
    if active and not bad:
        yield fine("key age", f"{len(active)} data keys are within their age and budget")


def replacing(entries: Entries, at: float) -> Iterator[Finding]:
    """Lookup keys that were being replaced long ago."""
    for entry in entries:
        successor = next((e for e in entries if e.slot == entry.slot and e.state is KeyState.ACTIVE), None)
        if entry.being_replaced and successor and at - (successor.activated or at) > _REPLACING_DAYS * _DAY:
            text = f"{entry.id.hex()} ({entry.slot}) has been replaced for more than {_REPLACING_DAYS:.0f} days"
            yield note(
                "lookup key", text, "when the CRM's values are written anew: `wxgate keys rotate --lookup --end`"
            )


def former(settings: Settings, kms: ServiceSet, entries: Entries) -> Iterator[Finding]:
    """Keys that are not with the service they should be with, and services that nothing needs any more."""
    left = [e for e in entries if e.state is not KeyState.DESTROYED and e.wrapped.service != kms.of(e.slot.owner).name]
    if left:
        names = sorted({entry.wrapped.service for entry in left})
        to = kms.of(left[0].slot.owner).name
        fix = f"`wxgate keys rewrap --to-service {to}`"
        yield soon("former service", f"{len(left)} keys are still with {', '.join(names)}", fix)
    for service in settings.keys.former:
        if service.name not in {entry.wrapped.service for entry in left}:
            text = f"nothing is with {service.name} any more"
            yield note("former service", text, "destroy its KEKs there and take it out of `former`")


def backups(kms: ServiceSet, entries: Entries) -> Iterator[Finding]:
    """Shredding with the embedded service does not reach copies of its file."""
    embedded = {service.name for service in kms if isinstance(service, LocalKms)}
    gone = [e for e in entries if e.state is KeyState.DESTROYED and e.wrapped.service in embedded and e.retired]
    if gone:
        day = time.strftime("%Y-%m-%d", time.gmtime(max(entry.retired or 0 for entry in gone)))
        text = f"backups of kek.json made before {day} open keys that were destroyed since"
        yield note("old backups", text, "destroy them, or the unlock key they were made under")


def shreddings(kms: ServiceSet, document: Document) -> Iterator[Finding]:
    """What is left here of what was shredded. Nothing if the embedded key service cannot tell: `services` says that."""
    with suppress(KeysError):
        yield from _not_followed(kms, document.shredded)
        yield from _unused(kms, document)


def _not_followed(kms: ServiceSet, shredded: frozenset[Shredded]) -> Iterator[Finding]:
    """Whether what another machine shredded is destroyed here too."""
    for owner in to_follow(kms, shredded):
        text = f"kek.json still has a KEK of {owner.tenant}/{owner.region} that was shredded"
        yield soon("shredding", text, "a running gateway destroys it; if it runs, /readyz says why it does not")


def _unused(kms: ServiceSet, document: Document) -> Iterator[Finding]:
    """KEKs here that open nothing but what was destroyed, and so only backups."""
    if (embedded := kms.embedded) is None:
        return
    living: dict[Owner, set[int]] = {entry.slot.owner: set() for entry in document.entries}
    for entry in document.entries:
        if entry.state is not KeyState.DESTROYED:
            living[entry.slot.owner].add(entry.wrapped.kek_version)
    shredded = {each.owner for each in document.shredded}
    for owner, versions in sorted(living.items()):
        here = embedded.kek_ids(owner)
        if owner in shredded and versions and (unused := sorted(set(here) - versions)):
            numbers = ", ".join(map(str, unused))
            text = (
                f"{owner.tenant}/{owner.region} was shredded and began anew, and nothing is under version {numbers} "
                "of its KEK in kek.json"
            )
            fix = (
                "if this machine made it before it knew of the shredding, it opens backups: take kek.json from the "
                "machine that shredded (docs/runbooks/several-machines.md)"
            )
            yield note("shredding", text, fix)
        elif here and not versions:
            text = f"every key of {owner.tenant}/{owner.region} is destroyed, and kek.json still has its KEK"
            fix = (
                f"was the tenant shredded: `wxgate keys shred --tenant {owner.tenant} --region {owner.region}` here too"
            )
            yield note("shredding", text, fix)


def exchange(settings: Settings, file: KeyringFile) -> Iterator[Finding]:
    """Whether Redis, which carries the keyring between machines, has what this machine has."""
    if settings.keys.redis is None:
        return
    link = RedisLink(settings.keys.redis)
    try:
        found = link.read()
    except RedisDownError as error:
        yield soon("exchange", str(error), "the gateway goes on, but makes no key active that others do not know")
        return
    except KeysError as error:
        yield soon("exchange", str(error), "find out who wrote it; the gateway does not believe it")
        return
    finally:
        link.close()
    mine = file.document().revision
    theirs = int(found[0]) if found is not None and found[0].isdigit() else 0
    if theirs != mine:
        yield note("exchange", f"Redis has revision {theirs} of the keyring, this machine {mine}", "look again shortly")
    else:
        yield fine("exchange", f"Redis has this machine's revision of the keyring, {mine}")
