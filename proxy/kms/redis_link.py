"""One key of a Redis server, which carries the keyring between machines: read whole, replaced whole or not at all."""

from __future__ import annotations

from typing import cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from proxy.kms.keyring_file import MAX_BYTES
from proxy.kms.redis_settings import RedisSettings
from proxy.kms.service import KeysError

# Replaces the document if it is the one that was read (its revision; empty: there was none).
_SWAP = """
local now = redis.call('HGET', KEYS[1], 'revision') or ''
if now ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'document', ARGV[3])
return 1
"""


class RedisDownError(KeysError):
    """Redis cannot be reached, does not answer, or does not let us in. The text names no secret."""


class RedisLink:
    """Reads and replaces the document. Connects when it is needed. Methods block and raise RedisDownError."""

    def __init__(self, settings: RedisSettings) -> None:
        self._key = f"{settings.name}:keyring"
        self._place = f"redis {settings.host}:{settings.port}"
        self._client = redis.Redis(
            host=settings.host,
            port=settings.port,
            db=settings.database,
            username=settings.username or None,
            password=settings.password.decode() or None,
            socket_timeout=settings.timeout,
            socket_connect_timeout=settings.timeout,
            ssl=settings.tls,
            ssl_ca_certs=str(settings.ca) if settings.ca else None,
            retry=Retry(NoBackoff(), 0),  # the next exchange is the retry
        )

    def read(self) -> tuple[bytes, bytes] | None:
        """Revision, as it was written, and document; None if there is none. KeysError if it is no keyring's."""
        try:
            found = cast(list[bytes | None], self._client.hmget(self._key, ["revision", "document"]))
        except redis.RedisError as error:
            raise self._down(error) from None
        revision, document = found
        if revision is None and document is None:
            return None
        if revision is None or document is None or len(document) > MAX_BYTES or len(revision) > 20:
            raise KeysError(f"{self._place}: what {self._key} holds is no keyring")
        return revision, document

    def swap(self, read: bytes, revision: bytes, document: bytes) -> bool:
        """Puts `document` there if what is there has the revision `read` still; empty: if nothing is there."""
        try:
            return bool(self._client.eval(_SWAP, 1, self._key, read, revision, document))
        except redis.RedisError as error:
            raise self._down(error) from None

    def close(self) -> None:
        self._client.close()

    def _down(self, error: redis.RedisError) -> RedisDownError:
        # What the library says may repeat what it sent.
        return RedisDownError(f"{self._place}: {type(error).__name__}; check address, TLS and password")
