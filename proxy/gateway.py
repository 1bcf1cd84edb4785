"""The conductor: the only asynchronous code that knows the order of things.

It calls a step of `journey`, waits for the world, calls the next. Whatever happens on the way - an exception, the
deadline, a cancellation - ends as a refusal; there is no path on which bytes leave otherwise.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass

from proxy import cleared, journey
from proxy.alarms import Alarms, TimeLimit
from proxy.caller import Caller
from proxy.cleared import ClearedReply, ClearedRequest, StoredReply, require_cleared_reply
from proxy.cohorts import Cohorts
from proxy.crypto.data_key import Purpose
from proxy.journey import Answered, Arrived, Known, Opened, Planned, Protected
from proxy.policy.carry_out import Carried, Keyset
from proxy.policy.compiled import Policy
from proxy.ports import Audit, Claim, Clock, Deliveries, Delivery, Entropy, Keys, Log, Measures, Owner, Upstream
from proxy.record import record
from proxy.refusal import Audience, Level, Refusal, Wechat, plain
from proxy.route import Route, RouteKind, RouteTable
from proxy.wechat.reply import SUCCESS

_HOLD_MARGIN = 1.0  # seconds a claim is held beyond the exchange's deadline: it must not run out under its holder
_PENDING_POLL = 0.02  # seconds; a repeat that comes while the first is under way is rare


@record
class Refused:
    """What the HTTP layer writes instead of a reply: rendered from the answer table for this audience."""

    refusal: Refusal
    audience: Audience


@dataclass(slots=True)
class World:
    """Everything outside, as ports."""

    keys: Keys
    deliveries: Deliveries
    upstream: Upstream
    clock: Clock
    entropy: Entropy
    audit: Audit
    log: Log
    measures: Measures


class Gateway:
    """One per worker. `table` is replaced as a whole on reload; an exchange keeps the one it began with."""

    def __init__(
        self, table: RouteTable, world: World, cohorts: Cohorts | None = None, alarms: Alarms | None = None
    ) -> None:
        """`cohorts`: those of the event loop, which the connections share."""
        self.table = table
        self._world = world
        self._cohorts = cohorts or Cohorts()
        self._alarms = alarms or Alarms()

    def replace(self, table: RouteTable, keys: Keys, upstream: Upstream) -> None:
        """Takes up a new configuration for the exchanges that begin from now on. Not for those under way: bytes that an
        old policy cleared for one upstream could go to another that took over its name."""
        self.table = table
        self._world = dataclasses.replace(self._world, keys=keys, upstream=upstream)

    def handle(self, arrived: Arrived) -> Coroutine[None, None, ClearedReply | Refused]:
        """The answer to one request. Raises CancelledError, and what audit log, log or metrics raise unforeseen: then
        nothing may be written."""
        return _Exchange(self.table, self._world, self._cohorts, self._alarms).handle(arrived)


class _Exchange:
    """One request and its answer: what it began with, and what is known of it so far, metadata only, for audit, log and
    metrics."""

    __slots__ = ("_alarms", "_caller", "_cohorts", "_delivery", "_marks", "_route", "_started", "_table", "_world")

    def __init__(self, table: RouteTable, world: World, cohorts: Cohorts, alarms: Alarms) -> None:
        self._table, self._world, self._cohorts, self._alarms = table, world, cohorts, alarms
        self._started = world.clock.monotonic()
        self._route: Route | None = None
        self._caller: Caller | None = None
        self._delivery = ""
        self._marks: list[tuple[str, float]] = []

    async def handle(self, arrived: Arrived) -> ClearedReply | Refused:
        """See `Gateway.handle`."""
        try:
            routed = journey.find_route(arrived, self._table)
            self._route = routed.route
            with TimeLimit(self._alarms, routed.route.deadline):
                known = journey.admit(routed)
                self._caller = known.caller
                await self._cohorts.rest()
                walk = self._inbound if routed.route.kind is RouteKind.INBOUND else self._call
                reply = require_cleared_reply(await walk(known))
            self._mark("total", self._started)
            self._flush("answered")
            return reply
        except Refusal as refusal:
            return self._refuse(refusal)
        except TimeoutError:
            return self._refuse(Refusal("deadline"))
        except asyncio.CancelledError:
            self._refuse(Refusal("cancelled"))
            raise
        except Exception as error:  # noqa: BLE001 - the last guard: any fault is a refusal
            self._world.log.fault(error)
            return self._refuse(Refusal("internal"))

    # --- inbound

    async def _inbound(self, known: Known) -> ClearedReply:
        now = int(self._world.clock.now())
        method = known.routed.arrived.request.method
        if method == "GET":
            reply = journey.echo(known, now)
            self._audit("verified")
            return reply
        if method != "POST":
            raise Refusal("method_not_allowed")
        begun = self._world.clock.monotonic()
        genuine = journey.verify(known, now)
        await self._done("verify", begun)
        begun = self._world.clock.monotonic()
        opened = journey.open_push(genuine)
        await self._done("open", begun)
        delivery = Delivery(opened.triple, opened.payload, opened.message)
        stored = await self._claim(delivery, known.routed.route)
        if stored is not None:
            self._audit("repeated")
            return cleared.clear_stored(stored)
        return await self._first(delivery, opened)

    async def _claim(self, delivery: Delivery, route: Route) -> StoredReply | None:
        """None: the delivery is ours to work on. Waits while the same message is being worked on."""
        world = self._world
        while True:
            claim, stored = world.deliveries.claim(delivery, world.clock.now(), route.deadline + _HOLD_MARGIN)
            if claim is Claim.FIRST:
                return None
            if claim is Claim.REPEAT and stored is not None:
                world.measures.count("repeats")
                return stored
            await asyncio.sleep(_PENDING_POLL)

    async def _first(self, delivery: Delivery, opened: Opened) -> ClearedReply:
        deliveries, settled = self._world.deliveries, False
        try:
            await self._cohorts.rest()  # in here: who leaves now must give the claim back too
            reply = await self._deliver(opened)
            deliveries.settle(delivery, cleared.store(reply), self._world.clock.now())
            settled = True
            await self._cohorts.rest()
            return reply
        except Refusal as refusal:
            if refusal.row.wechat is Wechat.RECEIVED:  # as final as a reply: WeChat must not try again
                deliveries.settle(delivery, StoredReply("", SUCCESS), self._world.clock.now())
                settled = True
            raise
        finally:
            if not settled:
                deliveries.release(delivery)

    async def _deliver(self, opened: Opened) -> ClearedReply:
        known, world = opened.genuine.known, self._world
        route = known.routed.route
        whose = Owner(route.tenant, route.region), "default", Purpose.LOOKUP
        naming = world.keys.at_hand(*whose) or await world.keys.active(*whose)
        self._delivery = naming.delivery_id(opened.message)
        planned_push = journey.plan_push(opened)
        await self._cohorts.rest()
        protected = await self._protect(planned_push)
        response_to = await self._send(protected)
        begun = world.clock.monotonic()
        planned = journey.plan_passive_reply(response_to, opened)
        if planned is None:
            return cleared.clear_success()  # WeChat's constant: nothing leaves that the audit would have to show
        answer = await self._protect(planned)
        reply = journey.seal(answer, opened, world.entropy, int(world.clock.now()))
        self._audit_carried("response", answer.carried)
        self._mark("reply", begun)
        return reply

    # --- outbound and agent

    async def _call(self, known: Known) -> ClearedReply:
        parsed = journey.parse_call(known)
        self._delivery = self._world.entropy(16).hex()
        answered = await self._send(await self._protect(journey.plan_call(parsed)))
        begun = self._world.clock.monotonic()
        protected = await self._protect(journey.plan_answer(answered, parsed))
        reply = journey.hand_back(protected, answered)
        self._audit_carried("response", protected.carried)
        self._mark("reply", begun)
        return reply

    # --- what all ways share

    async def _protect(self, planned: Planned) -> Protected:
        if (following := planned.known.routed.following) is not None:
            self._shadow(planned, following)
        begun = self._world.clock.monotonic()
        keys = await self._keys(planned)
        protected = journey.protect(planned, keys, self._world.entropy)
        await self._done("protect", begun)
        return protected

    def _shadow(self, planned: Planned, following: Policy) -> None:
        """Counts what the next policy would decide otherwise. Whatever happens here, the message goes its way."""
        measures, route = self._world.measures, planned.known.routed.route.name
        try:
            found = journey.differences(planned, following)
        except Exception as error:  # noqa: BLE001 - a policy on trial can do no harm
            self._world.log.fault(error)
            measures.count("shadow_messages", route, "failed")
            return
        measures.count("shadow_messages", route, "different" if found else "same")
        for item in found:
            measures.count("shadow_differences", route, item.selector, item.now, item.then)

    async def _keys(self, planned: Planned) -> Keyset:
        route, keys = planned.known.routed.route, self._world.keys
        owner, needs = Owner(route.tenant, route.region), planned.plan.needs()
        sealing = {
            (group, purpose): keys.at_hand(owner, group, purpose) or await keys.active(owner, group, purpose)
            for group, purpose in needs.groups
        }
        opening = {}
        for key_id in needs.ids:
            if (key := await keys.by_id(owner, key_id)) is not None:
                opening[key_id] = key
        replaced = {group: await keys.previous(owner, group) for group in needs.replaced}
        return Keyset(sealing, opening, replaced)

    async def _send(self, protected: Protected) -> Answered:
        """The upstream's answer, whatever it says. What is sent stands in the audit log before it is sent."""
        request: ClearedRequest = journey.clear(protected, self._delivery)
        self._audit_carried("request", protected.carried)
        await self._cohorts.rest()
        known, begun = protected.planned.known, self._world.clock.monotonic()
        response = await self._world.upstream.send(request, begun + known.routed.route.upstream_budget)
        self._mark("send", begun)
        return Answered(known, response)

    # --- telling

    def _mark(self, step: str, begun: float) -> None:
        self._marks.append((step, self._world.clock.monotonic() - begun))

    def _done(self, step: str, begun: float) -> Awaitable[None]:
        """A rest until the others of the cohort have done `step` too."""
        self._mark(step, begun)
        return self._cohorts.rest()

    def _audit_carried(self, phase: str, carried: Carried) -> None:
        counts, plan = carried.counts, carried.plan
        said = ("phase", phase, "policy", plan.policy, "revision", plan.revision)
        values = (
            *("values_protected", counts.get("encrypted", 0)),
            *("values_revealed", counts.get("revealed", 0) + counts.get("revealed masked", 0)),
            *("values_allowed", counts.get("allowed", 0)),
            *("values_masked", counts.get("masked", 0)),
            *("values_dropped", counts.get("dropped", 0)),
        )
        self._audit("cleared", said + values)
        self._world.measures.count_each("values", counts)
        if unknown := counts.get("unclassified"):  # WeChat has a field that the policy does not know yet
            route = self._route.name if self._route else ""
            self._world.log.write(Level.WARNING, "unclassified", route=route, delivery=self._delivery, count=unknown)

    def _audit(self, event: str, usual: tuple[str | int, ...] = ()) -> None:
        """`usual`: of `ports.Audit`. Refusal `audit_unwritable` if the record cannot be written: what is not on record
        must not happen."""
        record: dict[str, str | int | float | bool | None] = {"event": event, "at": round(self._world.clock.now(), 3)}
        if self._delivery:
            record["delivery"] = self._delivery
        try:
            self._world.audit.append(record, self._names() + usual)
        except OSError:
            raise Refusal("audit_unwritable") from None

    def _refuse(self, refusal: Refusal) -> Refused:
        refusal = plain(refusal)
        try:
            self._audit("refused", ("code", refusal.code, "stage", refusal.row.stage))
        except Refusal as unwritable:
            refusal = plain(unwritable)
        facts = {"code": refusal.code, "stage": refusal.row.stage, "delivery": self._delivery}
        facts["route"] = self._route.name if self._route else ""
        self._world.log.write(int(refusal.row.level), "refused", **facts)
        self._flush(refusal.code)
        return Refused(refusal, self._audience())

    def _flush(self, outcome: str) -> None:
        route = self._route.name if self._route else ""
        measures = self._world.measures
        measures.count("exchanges", route, outcome)
        measures.observe("step_seconds", self._marks)

    def _names(self) -> tuple[str | int, ...]:
        """What an audit record says of route and caller; see `ports.Audit`."""
        route, caller = self._route, self._caller
        known = () if route is None else ("route", route.name, "direction", route.kind.word)
        return known if caller is None else (*known, "caller", caller.subject, "role", caller.role)

    def _audience(self) -> Audience:
        return self._route.kind.audience if self._route else Audience.HTTP
