"""What must be so before a configuration is served, at the start and at a reload: loaded, checked, its places ours."""

from __future__ import annotations

import socket
from pathlib import Path

from proxy.crypto.data_key import KeyMismatchError
from proxy.edge.tls import TlsConfigurationError
from proxy.kms.budget import SharedBudget
from proxy.kms.keyring import Keyring
from proxy.kms.service import KeysError
from proxy.observe.audit import AuditChain
from proxy.serve import selfcheck, state_lock
from proxy.serve.assemble import Loaded, load, remembered
from proxy.serve.settings import Settings
from proxy.serve.sockets import ListenError, bind_listeners, listen


class StartError(Exception):
    """wxgate does not start. One sentence for each reason."""


def alone_on(state: Path) -> int:
    """The lock of the state directory, held while the descriptor is open here or in a worker. Raises StartError."""
    try:
        return state_lock.take(state)
    except KeysError as error:
        raise StartError(str(error)) from None


def checked(settings: Settings, budget: SharedBudget, before: Keyring | None) -> Loaded:
    """Everything of `settings` loaded and self-checked. Raises StartError."""
    try:
        loaded = load(settings, budget, before, distributed=True)
        loaded.keys.reload()  # `before` must not hide that the file cannot be read
        loaded.keys.open_active()
        loaded.keys.upkeep.keep_now()
    except (KeysError, KeyMismatchError, TlsConfigurationError, ValueError, OSError) as error:
        raise StartError(str(error)) from None
    if found := selfcheck.problems(loaded):
        raise StartError("\n".join(found))
    return loaded


def bind(settings: Settings, workers: int) -> tuple[list[dict[str, socket.socket]], list[socket.socket]]:
    """The sockets of each worker and of the admin page. Raises StartError if an address cannot be had."""
    try:
        return bind_listeners(settings.listeners, workers), [listen(settings.admin.host, settings.admin.port)]
    except ListenError as error:
        raise StartError(str(error)) from None


def require_audit(settings: Settings, workers: int) -> None:
    """Raises StartError if a worker could not write its audit log."""
    try:
        for slot in range(workers):
            AuditChain.open(settings.audit, slot, max_bytes=settings.audit_max_bytes).close()
    except OSError as error:
        raise StartError(str(error)) from None


def require_same_shape(old: Settings, new: Settings) -> None:
    """What a running gateway cannot change is refused, not ignored. Raises StartError."""

    def fixed(settings: Settings) -> tuple[object, ...]:
        places = {(item.name, item.host, item.port) for item in settings.listeners}
        memory = (settings.delivery_entries, settings.delivery_reply_bytes)
        return places, settings.state, settings.audit, settings.admin, memory

    # A longer window would take deliveries as fresh that the shared memory has forgotten already.
    if fixed(old) != fixed(new) or remembered(new) > remembered(old):
        raise StartError(
            "addresses, state, audit, admin, deliveries, longer account windows change with a restart only"
        )
