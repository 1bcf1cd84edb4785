"""What a reload does to an exchange that began before it."""

from __future__ import annotations

import dataclasses

from proxy.cleared import ClearedRequest, StoredReply
from proxy.edge.upstream import UpstreamPool
from proxy.message import Response
from proxy.ports import Claim, Deliveries, Delivery
from tests.promises.house import House


class Newcomer(UpstreamPool):
    """The upstream that has the old one's name after the reload."""

    def __init__(self) -> None:
        super().__init__(())
        self.got: list[ClearedRequest] = []

    async def send(self, request: ClearedRequest, deadline: float) -> Response:
        self.got.append(request)
        return Response(200, b"success")


class ReloadWhilePending(Deliveries):
    """The delivery waits for one that is under way; meanwhile everything is reloaded."""

    def __init__(self, house: House, upstream: UpstreamPool) -> None:
        self.house, self.upstream, self.inner = house, upstream, house.world.deliveries
        self.reloaded = False

    def claim(self, delivery: Delivery, now: float, hold: float) -> tuple[Claim, StoredReply | None]:
        if self.reloaded:
            return self.inner.claim(delivery, now, hold)
        self.reloaded = True
        gateway = self.house.assembly.gateway
        gateway.replace(gateway.table, self.house.world.keys, self.upstream)
        return Claim.PENDING, None

    def settle(self, delivery: Delivery, reply: StoredReply, now: float) -> None:
        self.inner.settle(delivery, reply, now)

    def release(self, delivery: Delivery) -> None:
        self.inner.release(delivery)


def test_what_an_old_policy_cleared_does_not_go_to_a_new_upstream(house: House) -> None:
    """The message is decided by the policy it arrived under. That says nothing about another system of the name."""
    before, newcomer = house.world, Newcomer()
    seen = house.sent
    house.world = dataclasses.replace(before, deliveries=ReloadWhilePending(house, newcomer))
    try:
        answer = house.push(house.text("race"))
    finally:
        house.world = before
    assert answer.status == 200
    assert newcomer.got == []
    assert house.sent > seen
