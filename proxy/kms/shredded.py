"""Which KEKs were shredded, as the keyring says it to every machine that shares it. Pure. docs/spec/keyring.md is
normative."""

from __future__ import annotations

from typing import NamedTuple

from proxy.crypto.data_key import hkdf
from proxy.ports import Owner

KEK_ID_SIZE = 16


class Shredded(NamedTuple):
    """A KEK of the embedded key service that was destroyed, and all that was ever under it with it. `kek_id` tells it
    from every other: what the owner has later, or another machine made under the same version, is not meant."""

    owner: Owner
    kek_id: bytes


def kek_id_of(kek: bytes) -> bytes:
    """Names a KEK and tells nothing of it."""
    return hkdf(kek, b"wxgate/1 kek id", KEK_ID_SIZE)
