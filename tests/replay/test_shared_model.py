"""Any sequence of calls, against a model made of two dicts."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from proxy.cleared import StoredReply
from proxy.ports import Claim, Delivery
from proxy.refusal import Refusal
from proxy.replay.shared import SharedDeliveries

HOLD = 5.0
# Keys that a careless search would take for one another.
KEYS = [bytes(16), b"\1" * 16, bytes(8) + b"\1" * 8, b"\1" * 8 + bytes(8), bytes(15) + b"\1", b"\1" + bytes(15)]
DELIVERIES = st.builds(Delivery, st.sampled_from(KEYS), st.sampled_from(KEYS[:2]), st.sampled_from(KEYS))
REPLIES = st.builds(StoredReply, st.sampled_from(["", "xml", "json"]), st.sampled_from([b"", b"success", b"other"]))
STEPS = st.sampled_from([0.5, 4.5, 5.0, 30.0, 60.0, 60.5, 340.0, 699.5, 700.0])

type Outcome = str | tuple[Claim, StoredReply | None]


@dataclass
class Message:
    until: float
    hold: float  # 0: released
    reply: StoredReply | None = None


class Model:
    def __init__(self) -> None:
        self.triples: dict[bytes, tuple[bytes, bytes, float]] = {}
        self.messages: dict[bytes, Message] = {}

    def forget(self, now: float) -> None:
        self.triples = {key: it for key, it in self.triples.items() if now < it[2] + 700}
        self.messages = {key: it for key, it in self.messages.items() if now < it.until}

    def claim(self, d: Delivery, now: float) -> Outcome:
        self.forget(now)
        known = self.triples.get(d.triple)
        if known and known[:2] != (d.payload, d.message):
            return "delivery_conflict"
        if known and now - known[2] > 60:
            return "delivery_replayed"
        message = self.messages.get(d.message)
        if not known:
            self.triples[d.triple] = (d.payload, d.message, now)
            if message:
                message.until = now + 700
        if message and message.reply:
            return Claim.REPEAT, message.reply
        if message and now < message.hold:
            return Claim.PENDING, None
        self.messages[d.message] = Message(now + 700, now + HOLD)
        return Claim.FIRST, None

    def settle(self, d: Delivery, reply: StoredReply, now: float) -> None:
        self.forget(now)
        message = self.messages.get(d.message)
        if message and message.hold and not message.reply:
            message.reply = reply

    def release(self, d: Delivery) -> None:
        message = self.messages.get(d.message)
        if message and not message.reply:
            message.hold = 0


class SameAsModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000.0
        self.model = Model()
        self.shared = SharedDeliveries.create(1, 1 << 20, processes=1)

    def teardown(self) -> None:
        self.shared.close()

    @rule(step=STEPS)
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule(d=DELIVERIES)
    def claim(self, d: Delivery) -> None:
        outcome: Outcome
        try:
            outcome = self.shared.claim(d, self.now, HOLD)
        except Refusal as refusal:
            outcome = refusal.code
        assert outcome == self.model.claim(d, self.now)

    @rule(d=DELIVERIES, reply=REPLIES)
    def settle(self, d: Delivery, reply: StoredReply) -> None:
        self.shared.settle(d, reply, self.now)
        self.model.settle(d, reply, self.now)

    @rule(d=DELIVERIES)
    def release(self, d: Delivery) -> None:
        self.shared.release(d)
        self.model.release(d)


SameAsModel.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestSameAsModel = SameAsModel.TestCase
