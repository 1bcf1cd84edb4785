"""Where the Redis server is that carries the keyring between machines. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """`tls`: with `ca` (PEM; None: the system's). `refresh`: seconds between two exchanges; `timeout`: for a
    whole exchange, however often it asks. `name`: of the keyring there, for several installations on one server."""

    host: str
    port: int
    tls: bool = True
    ca: Path | None = None
    username: str = ""
    password: bytes = field(default=b"", repr=False)
    database: int = 0
    name: str = "wxgate"
    refresh: float = 5.0
    timeout: float = 2.0
