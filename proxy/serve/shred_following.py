"""Destroying here what another machine shredded: on record, and tried until it is done."""

from __future__ import annotations

import asyncio
import math
import secrets
import time

from proxy.crypto.data_key import KeyMismatchError
from proxy.kms.following import follow, to_follow, under_shredded
from proxy.kms.gate import pause
from proxy.kms.kek_file import KekFile
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.service import KeysError
from proxy.kms.service_set import ServiceSet
from proxy.kms.services import open_services
from proxy.observe.log import StructuredLog
from proxy.ports import Owner
from proxy.serve.key_record import on_record
from proxy.serve.settings import Settings


def follow_shreds(settings: Settings, services: ServiceSet, file: KeyringFile) -> list[Owner]:
    """Whose KEKs were destroyed because the keyring calls them shredded. What cannot be put on record is not done.

    Blocks. Raises KeysError, KeyMismatchError, OSError.
    """
    owners = to_follow(services, file.document().shredded)
    for owner in owners:
        known = [entry.id for entry in under_shredded(file.document(), services, owner)]
        with on_record(settings, "follow_shred", f"{owner.tenant}/{owner.region}", known) as concerned:
            concerned(follow(file, services, owner, time.time()))
    return owners


class ShredFollowing:
    """The supervisor's. It looks again whenever the keyring names other KEKs, or the embedded key service's file is
    another one: a KEK that comes back from a backup is destroyed again."""

    def __init__(self, log: StructuredLog) -> None:
        self._log = log
        self._done: object = None
        self._failures, self._again_at = 0, -math.inf
        self.problem = ""

    async def turn(self, keys: Keyring, settings: Settings) -> None:
        """Returns when no thread is at work any more. What goes wrong is in `problem`, and tried again later."""
        shredded = keys.shredded()
        seen = shredded, KekFile(settings.state).stamp()
        if not shredded or seen == self._done or time.monotonic() < self._again_at:
            return
        try:
            services = open_services(settings.keys, settings.state, secrets.token_bytes)
            owners = await asyncio.to_thread(follow_shreds, settings, services, keys.file)
        except (KeysError, KeyMismatchError, OSError) as error:
            self._failures += 1
            self._again_at = time.monotonic() + pause(self._failures, 1.0)
            if not self.problem:
                self._log.write(40, "shred_not_followed", error=type(error).__name__)
            self.problem = str(error)
            return
        self._failures, self.problem = 0, ""
        if not owners:  # after work it looks once more: whatever came back meanwhile has a stamp nobody looked at
            self._done = seen
        for owner in owners:
            self._log.write(30, "shred_followed", detail=f"{owner.tenant}/{owner.region}")

    def warnings(self) -> list[str]:
        """What somebody must look at."""
        return [f"a KEK that was shredded is still here: {self.problem}"] if self.problem else []
