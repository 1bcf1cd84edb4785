"""The one door out: cleared requests to configured upstreams, over verified, pooled TLS connections.

Rules: a request is written at most once, whatever happens after; a connection that showed anything irregular is never
used again; whoever is at the other end proved to be the configured host by its certificate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from proxy.cleared import ClearedRequest, require_cleared_request
from proxy.cohorts import Cohorts
from proxy.edge.upstream_pool import ConnectionPool, UpstreamStats
from proxy.edge.upstream_request import encode
from proxy.edge.upstream_settings import UpstreamSettings
from proxy.edge.upstream_tls import client_context
from proxy.message import Response
from proxy.refusal import Refusal

__all__ = ["UpstreamPool", "UpstreamSettings", "UpstreamStats"]


class UpstreamPool:
    """ports.Upstream for all configured upstreams. Belongs to one event loop; `cohorts` are those of that loop.

    Raises ValueError on construction: two upstreams of one name, or an unreadable certificate or key.
    """

    def __init__(self, upstreams: Iterable[UpstreamSettings], cohorts: Cohorts | None = None) -> None:
        self._pools: dict[str, tuple[bytes, ConnectionPool]] = {}
        for settings in upstreams:
            if settings.name in self._pools:
                raise ValueError(f"upstream {settings.name}: configured twice; give each upstream its own name")
            pool = ConnectionPool(settings, client_context(settings), cohorts or Cohorts())
            self._pools[settings.name] = (settings.own_fields, pool)

    async def send(self, request: ClearedRequest, deadline: float) -> Response:
        """The complete answer. `deadline`: monotonic seconds. Never sends twice.

        Raises Refusal `upstream_unreachable`, `upstream_untrusted`, `upstream_timeout`, `upstream_broken`,
        `upstream_busy`; `not_cleared`, and not a byte leaves, for anything but a well-formed cleared request for a
        configured upstream.
        """
        cleared = require_cleared_request(request)
        entry = self._pools.get(cleared.upstream)
        if entry is None:
            raise Refusal("not_cleared")
        own_fields, pool = entry
        return await pool.exchange(encode(cleared, own_fields), cleared.method, deadline)

    async def warm(self) -> Mapping[str, str]:
        """Opens the configured warm connections and keeps them open. Returns refusal codes by upstream, for those that
        could not be had now; they are tried again while the pool lives."""
        codes = await asyncio.gather(*(_warm(pool) for _, pool in self._pools.values()))
        return {name: code for name, code in zip(self._pools, codes, strict=True) if code is not None}

    async def close(self) -> None:
        """Ends all connections, busy ones at once. Nothing is sent afterwards."""
        await asyncio.gather(*(pool.close() for _, pool in self._pools.values()))

    def stats(self) -> dict[str, UpstreamStats]:
        """Counts by upstream."""
        return {name: pool.stats() for name, (_, pool) in self._pools.items()}


async def _warm(pool: ConnectionPool) -> str | None:
    try:
        await pool.warm()
    except Refusal as refusal:
        return refusal.code
    return None
