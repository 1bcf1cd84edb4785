"""The route table: listener, host and path decide, and nothing is ever a default. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.message import Request
from proxy.policy.compiled import Policy
from proxy.policy.rules import Direction
from proxy.refusal import Audience, Refusal
from proxy.wechat.account import Account


class RouteKind(enum.Enum):
    """Who speaks on a route; each kind has its verifier, its plan and its direction."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    AGENT = "agent"

    def __init__(self, word: str) -> None:
        self.word = word  # like `value`, which an Enum computes in Python each time

    @property
    def audience(self) -> Audience:
        return {"inbound": Audience.WECHAT, "outbound": Audience.CRM, "agent": Audience.AGENT}[self.value]

    @property
    def direction(self) -> Direction:
        return Direction(self.value)


@dataclass(frozen=True, slots=True)
class Credential:
    """One way to be let in on an outbound or agent route.

    `token_hash`: SHA-256 of the bearer token, empty for none; `certificate_name`: a DNS or URI name of a verified
    client certificate, empty for none. Whoever presents what is set is `subject` in `role`.
    """

    subject: str
    role: str
    token_hash: bytes = b""
    certificate_name: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table. `path` is exact, or with a final "/" a prefix (API routes: the policy names the calls).

    `target`: the path at the upstream for inbound routes; the others keep the caller's.
    `upstream_budget`: seconds for the upstream; `deadline`: seconds for the whole exchange.
    """

    name: str
    kind: RouteKind
    listener: str
    hosts: frozenset[str]
    path: str
    upstream: str
    policy: str
    tenant: str
    region: str
    target: str = ""
    account: Account | None = None
    credentials: tuple[Credential, ...] = ()
    sources: tuple[str, ...] = ()
    upstream_budget: float = 4.0
    deadline: float = 4.8
    max_body: int = 1024 * 1024
    next_policy: str = ""
    """A policy that is tried beside the one in force: it only counts what it would have decided otherwise."""

    def covers(self, host: str, path: str) -> bool:
        """Whether a request is this route's. `host`: empty for HTTP/1.0 without Host, which the listener decides."""
        if host and self.hosts and host not in self.hosts:
            return False
        return path == self.path or (self.path.endswith("/") and path.startswith(self.path))

    def overlaps(self, other: Route) -> bool:
        """Whether one request could match both."""
        if self.listener != other.listener or (self.hosts and other.hosts and not self.hosts & other.hosts):
            return False
        return self.covers(next(iter(self.hosts), ""), other.path) or other.covers(
            next(iter(other.hosts), ""), self.path
        )


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All routes with the policies they name. Replaced as a whole on reload."""

    routes: tuple[Route, ...]
    policies: dict[str, Policy]
    _by_place: dict[tuple[str, str], tuple[Route, ...]] = field(init=False, repr=False, default_factory=dict)
    """By listener and path, prefixes by listener alone: however many routes there are, a request meets few."""

    def __post_init__(self) -> None:
        for route in self.routes:
            place = route.listener, "" if route.path.endswith("/") else route.path
            self._by_place[place] = (*self._by_place.get(place, ()), route)

    def find(self, listener: str, host: str, path: str) -> Route:
        """The one route of a request. Refusal `route_unknown` if there is none."""
        candidates = self._by_place.get((listener, path), ())
        if prefixes := self._by_place.get((listener, "")):
            candidates += prefixes
        found = [route for route in candidates if route.covers(host, path)]
        if len(found) != 1:
            raise Refusal("route_unknown")
        return found[0]

    def policy_of(self, route: Route) -> Policy:
        """As it holds for the route's owner."""
        return self.policies[route.policy].for_owner(route.tenant, route.region)

    def next_policy_of(self, route: Route) -> Policy | None:
        following = self.policies.get(route.next_policy)
        return following.for_owner(route.tenant, route.region) if following else None

    def match(self, listener: str, request: Request) -> Route:
        return self.find(listener, request.host, request.path)


def overlapping(routes: Sequence[Route]) -> list[tuple[Route, Route]]:
    """Pairs of routes that one request could match: a configuration with any is refused."""
    return [(one, two) for at, one in enumerate(routes) for two in routes[at + 1 :] if one.overlaps(two)]
