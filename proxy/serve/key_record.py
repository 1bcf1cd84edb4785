"""Records of what is done to keys, by commands and by the gateway itself: in the audit log before it is done."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.kms.private_file import take_lock
from proxy.observe.audit import AuditChain, AuditUnwritable, AuditValue

if TYPE_CHECKING:
    from proxy.serve.settings import Settings

AUDIT_SLOT: Final = 9999
"""The audit chain of commands; no worker has it (docs/spec/audit.md)."""

_IDS = 3  # key ids of 32 bytes that one record has room for


def put_on_record(settings: Settings, event: str, **facts: AuditValue) -> None:
    """Writes what a command does into the audit log, with who called it, and brings it to the disk.

    Raises AuditUnwritable, KeysError (as `on_record`); the caller then does not do it.
    """
    _append(settings, [{"event": event, **facts}])


@contextmanager
def on_record(
    settings: Settings, verb: str, subject: str, key_ids: Iterable[bytes] = ()
) -> Iterator[Callable[[Iterable[bytes]], None]]:
    """Around a command that changes keys: that it was asked for, and for which `key_ids` if they are known, is on the
    disk before; how it ended after. Gives what takes the ids of the keys it concerned.

    Raises AuditUnwritable; KeysError while another command has the chain, for ten seconds.
    """
    facts: dict[str, AuditValue] = {"event": "keys_command", "reason": verb, "subject": subject}
    ids: list[bytes] = []
    _append(settings, _naming(facts | {"phase": "asked"}, key_ids))
    try:
        yield ids.extend
    except BaseException:
        _append(settings, [facts | {"phase": "ended", "outcome": "failed"}])
        raise
    _append(settings, _naming(facts | {"phase": "ended", "outcome": "done"}, ids))


def _naming(facts: Mapping[str, AuditValue], key_ids: Iterable[bytes]) -> list[Mapping[str, AuditValue]]:
    """As many records of `facts` as it takes to name every key; one if there is none."""
    named = [",".join(key_id.hex() for key_id in some) for some in batched(key_ids, _IDS, strict=False)]
    return [{**facts, "key_ids": text} for text in named or [""]]


def _append(settings: Settings, records: Iterable[Mapping[str, AuditValue]]) -> None:
    with _one_at_a_time(settings.audit):
        chain = AuditChain.open(settings.audit, AUDIT_SLOT, max_bytes=settings.audit_max_bytes)
        try:
            for record in records:
                chain.append({**record, "at": round(time.time(), 3), "caller": _caller()})
        finally:
            chain.close()  # syncs


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Commands wait for each other, for a while, instead of finding the chain in use."""
    path = directory / "commands.lock"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AuditUnwritable(f"audit {directory}: {error.strerror}; check disk, mode and owner") from None
    try:
        take_lock(fd, path)
        yield
    finally:
        os.close(fd)


def _caller() -> str:
    """The name of the user, or the number if the machine knows no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"
