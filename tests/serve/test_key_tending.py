"""The supervisor's turn at the keys."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from proxy.kms.keyring import Keyring
from proxy.kms.service import KeysError
from proxy.observe.log import StructuredLog
from proxy.serve.key_tending import KeyTending
from proxy.serve.settings import Settings


async def test_after_a_fault_too_the_turn_is_not_over_while_a_thread_is_at_work() -> None:
    """A worker is forked after it."""
    done: list[str] = []

    async def tick(*, keep: bool) -> None:
        raise KeysError("the file cannot be read")

    async def quiet() -> None:
        done.append("quiet")

    keys = SimpleNamespace(tick=tick, quiet=quiet)
    with pytest.raises(KeysError):
        await KeyTending(StructuredLog(done.append), lambda *_: None).turn(cast(Keyring, keys), cast(Settings, None))
    assert done == ["quiet"]
