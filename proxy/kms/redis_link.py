"""One key of a Redis server, which carries the keyring between machines: read whole, replaced whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from proxy.kms.keyring_file import MAX_BYTES
from proxy.kms.redis_bounds import BoundedConnection, BoundedTlsConnection, Bounds, TooLargeError
from proxy.kms.redis_settings import RedisSettings
from proxy.kms.service import KeysError

# The document, unless it is larger than one may be: that is not even sent.
_READ = """
if redis.call('HSTRLEN', KEYS[1], 'document') > tonumber(ARGV[1]) then return 0 end
return redis.call('HMGET', KEYS[1], 'revision', 'document')
"""
# Replaces the document if it is the one that was read (its revision; empty: there was none).
_SWAP = """
local now = redis.call('HGET', KEYS[1], 'revision') or ''
if now ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'document', ARGV[3])
return 1
"""
_REVISION_DIGITS = 20
_AROUND = 4096  # bytes of an answer around the document, and of what a login is answered
# What the library raises, and what its parser meets in an answer that is not Redis's.
_ERRORS = (redis.RedisError, OSError, ValueError, RecursionError)


class RedisDownError(KeysError):
    """Redis cannot be reached, does not answer, or does not let us in. The text names no secret."""


class RedisLink:
    """Reads and replaces the document. Connects when it is needed. Methods block and raise RedisDownError."""

    def __init__(self, settings: RedisSettings) -> None:
        self._key = f"{settings.name}:keyring"
        self._place = f"redis {settings.host}:{settings.port}"
        self.bounds = Bounds(settings.timeout, MAX_BYTES + _AROUND)
        self._within = False
        tls: dict[str, Any] = {"ssl_ca_certs": str(settings.ca) if settings.ca else None} if settings.tls else {}
        pool = redis.ConnectionPool(
            connection_class=BoundedTlsConnection if settings.tls else BoundedConnection,
            bounds=self.bounds,
            host=settings.host,
            port=settings.port,
            db=settings.database,
            username=settings.username or None,
            password=settings.password.decode() or None,
            protocol=2,  # what this asks needs no more, and what may answer is less
            retry=Retry(NoBackoff(), 0),  # the next exchange is the retry
            **tls,
        )
        self._client = redis.Redis(connection_pool=pool)

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """One deadline, `timeout` from now, for all that is asked inside."""
        self.bounds.begin()
        self._within = True
        try:
            yield
        finally:
            self._within = False

    def read(self) -> tuple[bytes, bytes] | None:
        """Revision, as it was written, and document; None if there is none. KeysError if it is no keyring's."""
        found = self._asked(_READ, str(MAX_BYTES).encode())
        match found:
            case [None, None]:
                return None
            case [bytes(revision), bytes(document)] if len(revision) <= _REVISION_DIGITS:
                return revision, document
        raise self._no_keyring()

    def swap(self, read: bytes, revision: bytes, document: bytes) -> bool:
        """Puts `document` there if what is there has the revision `read` still; empty: if nothing is there."""
        return self._asked(_SWAP, read, revision, document) == 1

    def _asked(self, script: str, *arguments: bytes) -> object:
        if not self._within:
            self.bounds.begin()
        self.bounds.expect()
        try:
            return self._client.eval(script, 1, self._key, *arguments)
        except TooLargeError:
            raise self._no_keyring() from None
        except _ERRORS as error:
            raise self._down(error) from None

    def close(self) -> None:
        self._client.close()

    def _no_keyring(self) -> KeysError:
        return KeysError(f"{self._place}: what {self._key} holds is no keyring")

    def _down(self, error: Exception) -> RedisDownError:
        # What the library says may repeat what it sent.
        return RedisDownError(f"{self._place}: {type(error).__name__}; check address, TLS and password")
