"""One WeChat account as the gateway knows it. Pure; built by the composition root from gateway.yaml."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from proxy.wechat.envelope import EnvelopeKey


class Mode(enum.Enum):
    """How the account's pushes come (console: message encryption mode)."""

    PLAIN = "plain"
    COMPATIBLE = "compatible"
    SAFE = "safe"


@dataclass(frozen=True, slots=True)
class Account:
    """An Official Account or Mini Program.

    `keys`: current and previous EncodingAESKey, in this order; deliveries under way at a change use the old one.
    `window`: how many seconds a push's timestamp may be off; a rule of the gateway, WeChat names none (protocol 1.4).
    """

    name: str
    app_id: str
    mode: Mode
    token: str = field(repr=False)
    keys: tuple[EnvelopeKey, ...] = ()
    window: int = 300
