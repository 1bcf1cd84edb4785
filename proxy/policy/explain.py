"""What a policy does to one message, leaf by leaf, and why. Pure.

Runs the plan and the carrying-out of production with keys made for the occasion; only refusals are told apart in more
detail than a caller is ever told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from proxy.crypto.data_key import DEK_SIZE, DataKey, Purpose
from proxy.document.head import read_header, read_path
from proxy.document.tree import Document, Into, Kind, Leaf, Path
from proxy.message import HeaderList
from proxy.policy.carry_out import Carried, Keyset, carry_out, redaction_of
from proxy.policy.compiled import Call, Policy
from proxy.policy.conditions import Situation
from proxy.policy.plan import Plan, Step, Treatment, draft_plan, read_call
from proxy.policy.rules import Direction, OnError, Phase, Reveal, RuleSet
from proxy.policy.selector import ANY, Any_, Pattern, Segment
from proxy.policy.transform import Form
from proxy.refusal import TABLE, Refusal
from proxy.source.problem import Place

Entropy = Callable[[int], bytes]

# Any tenant and region will do: nothing that is made here is ever opened elsewhere.
_TENANT, _REGION = "explained", "xx"


@dataclass(frozen=True, slots=True)
class Occasion:
    """When a message comes by: what a route and its caller would say. `method`, `path`, `query`, `headers` (names in
    lower case) and `content_type` for API calls only."""

    direction: Direction
    phase: Phase
    method: str = ""
    path: str = ""
    role: str = ""
    query: str = ""
    status: int = 200
    headers: HeaderList = field(default=(), repr=False)
    account: str = ""
    tenant: str = ""
    region: str = ""
    content_type: str = ""

    @property
    def situation(self) -> Situation:
        return Situation(self.account, self.tenant, self.region, self.role, self.content_type)


@dataclass(frozen=True, slots=True)
class Row:
    """One leaf. `value`: as it leaves, None if it does not. `rule`: None if no rule knows the leaf.
    `code`: of the refusal the leaf causes. `keys`: class group and purpose of the keys it takes."""

    form: str
    path: Path
    value: str | None
    treatment: Treatment
    data_class: str
    datum: str
    rule: Place | None
    why: str
    code: str = ""
    keys: str = ""

    @property
    def selector(self) -> str:
        return selector_of(self.form, self.path)


@dataclass(frozen=True, slots=True)
class Explanation:
    """`refusal`: the code of the first one, empty if the message leaves. `carried`: None if it does not."""

    rules: RuleSet
    rows: tuple[Row, ...]
    refusal: str
    carried: Carried | None


def find_rules(policy: Policy, occasion: Occasion, form: str, kind: str) -> RuleSet:
    """The rules production would take. `form`: of the body; `kind`: message type of a push or passive reply.

    Raises Refusal `message_unknown`.
    """
    found: RuleSet | None
    if occasion.direction is Direction.INBOUND:
        found = policy.find_inbound(occasion.phase, form, kind, occasion.situation)
    else:
        call = find_call(policy, occasion)
        is_request = occasion.phase is Phase.REQUEST
        found = None if call is None else call.request if is_request else call.answer_rules(occasion.status)
    if found is None:
        raise Refusal("message_unknown")
    return found


def find_call(policy: Policy, occasion: Occasion) -> Call | None:
    return policy.find_call(occasion.direction, occasion.method, occasion.path, occasion.situation)


def read_sample(policy: Policy, occasion: Occasion, data: bytes, read: Callable[[bytes], Document]) -> Document | None:
    """A body as production reads it, with `read` unless the rules of an API call say that it is urlencoded; None if a
    call has no body. Raises Refusal."""
    if not data and occasion.direction is not Direction.INBOUND:
        return None
    call = find_call(policy, occasion)
    return read_call(call.request, data, None, read) if call and occasion.phase is Phase.REQUEST else read(data)


def temporary_keys(policy: Policy, entropy: Entropy) -> Keyset:
    """A fresh key for everything the policy can seal."""
    sealing = {(group, purpose): DataKey(entropy(DEK_SIZE), purpose) for group in policy.groups for purpose in Purpose}
    replaced = {group: DataKey(entropy(DEK_SIZE), Purpose.LOOKUP) for group in policy.groups}
    return Keyset(sealing, {key.id: key for key in (*sealing.values(), *replaced.values())}, replaced)


def protect_first(plan: Plan, keys: Keyset, entropy: Entropy) -> Carried:
    """The message as the CRM would send it: where the policy wants a token and `plan` found a clear value, the value's
    token. Everything else as it is. Raises Refusal `bind_missing`."""

    def protected(step: Step) -> Step:
        wanted = step.code == "clear_value_refused"
        if step.treatment is Treatment.LOOKED_INTO:
            return step
        return replace(step, treatment=Treatment.ENCRYPTED if wanted else Treatment.ALLOWED, code="")

    return carry_out(_with(plan, protected), keys, _TENANT, _REGION, entropy)


def with_tokens(
    policy: Policy,
    rules: RuleSet,
    body: Document | None,
    occasion: Occasion,
    keys: Keyset,
    read: Callable[[bytes], Document],
    entropy: Entropy,
) -> tuple[Document | None, Occasion]:
    """Body and occasion of the message after `protect_first`. Raises Refusal as that does, `message_unknown` if a token
    made the path one that production would not know."""
    plan = draft_plan(policy, rules, body, occasion.query, occasion.role, head_of(policy, rules, occasion))
    carried = protect_first(plan, keys, entropy)
    path = carried.path or occasion.path
    where = replace(occasion, query=carried.query, path=path, headers=carried.headers)
    if occasion.direction is not Direction.INBOUND and find_rules(policy, where, "", "") is not rules:
        raise Refusal("message_unknown")
    return (read_sample(policy, where, carried.body, read) if body else None), where


def explain(
    policy: Policy, rules: RuleSet, body: Document | None, occasion: Occasion, keys: Keyset, entropy: Entropy
) -> Explanation:
    """One row for every leaf of `body` and every query parameter, in their order.

    Raises Refusal `document_type` or `document_malformed` if there is nothing to make rows of.
    """
    plan = draft_plan(policy, rules, body, occasion.query, occasion.role, head_of(policy, rules, occasion))
    codes = [step.code for step in plan.steps]
    carried, refusal = None, next((code for code in codes if code), "")
    if not refusal:
        try:
            carried = carry_out(plan, keys, _TENANT, _REGION, entropy)
        except Refusal as error:
            refusal = error.code
            codes = [_code_of(plan, index, keys, entropy) for index in range(len(plan.steps))]
    values: tuple[str | None, ...] = carried.values if carried else (None,) * len(codes)
    documents = [document for document in plan.documents for _ in document.leaves]
    rows = tuple(
        _row(document.form, step, _as_sent(value, step.leaf, document), code, occasion.role)
        for document, step, value, code in zip(documents, plan.steps, values, codes, strict=True)
    )
    return Explanation(rules, rows, refusal, carried)


def _as_sent(value: str | None, leaf: Leaf, document: Document) -> str | None:
    """An empty list or object that stays has no text of its own."""
    return document.source[leaf.start : leaf.end] if value == "" and leaf.kind is Kind.EMPTY else value


def head_of(policy: Policy, rules: RuleSet, occasion: Occasion) -> tuple[Document, ...]:
    """Path variables and header fields with rules, if `rules` are those of a call's request."""
    call = find_call(policy, occasion)
    if call is None or call.request is not rules:
        return ()
    return read_path(occasion.path, call.path.names), read_header(occasion.headers, rules.declared_fields)


def _with(plan: Plan, change: Callable[[Step], Step]) -> Plan:
    return replace(plan, steps=tuple(change(step) for step in plan.steps))


def _code_of(plan: Plan, index: int, keys: Keyset, entropy: Entropy) -> str:
    """Why the leaf `index` alone cannot be carried out; empty if it can."""
    only = plan.steps[index]
    stays = (Treatment.ALLOWED, Treatment.LOOKED_INTO)
    if only.treatment in stays:
        return ""

    def alone_or_left(step: Step) -> Step:
        return step if step is only or step.treatment in stays else replace(step, treatment=Treatment.ALLOWED)

    alone = _with(plan, alone_or_left)
    try:
        carry_out(alone, keys, _TENANT, _REGION, entropy)
    except Refusal as refusal:
        return refusal.code
    return ""


def _row(form: str, step: Step, value: str | None, code: str, role: str) -> Row:
    rule, data_class = step.rule, step.rule.data_class
    known = bool(rule.place.line)  # the rule that stands for no rule stands nowhere
    named = data_class is not None and (known or not code)
    return Row(
        form,
        step.leaf.path,
        value,
        Treatment.REFUSED if code else _became(step, value),
        data_class.name if data_class and named else "",
        rule.datum if named or known else "",
        rule.place if known else None,
        TABLE[code].message if code else _why(step, value, role),
        code,
        "" if code else _keys(step),
    )


def _keys(step: Step) -> str:
    keys = () if step.treatment is Treatment.ALLOWED else step.rule.keys
    return ", ".join(sorted(f"{group} {purpose.value}" for group, purpose in keys))


_WHY = {
    Treatment.ALLOWED: "the rule says allow",
    Treatment.DROPPED: "the rule says drop",
    Treatment.MASKED: "the class masks",
    Treatment.REDACTED: "the class redacts",
    Treatment.HASHED: "the class hashes",
    Treatment.INDEXED: "the class indexes",
    Treatment.FORMAT_PRESERVED: "the class encrypts and keeps the format",
    Treatment.LOOKED_INTO: "what stands inside has rules of its own, below",
    Treatment.REVEALED: "opened for {role}",
    Treatment.REVEALED_MASKED: "opened and masked for {role}",
}


_TOKEN_ONLY = (("", Form.TOKEN),)


def _given_up(step: Step, value: str | None) -> bool:
    """Whether `value` stands where the rule could not be carried out."""
    if step.rule.on_error is OnError.REFUSE or step.treatment in (Treatment.DROPPED, Treatment.REDACTED):
        return False
    return value == (None if step.rule.on_error is OnError.DROP else redaction_of(step))


def _became(step: Step, value: str | None) -> Treatment:
    """What a policy test is told: a value that was given up is not what the rule says of others."""
    if not _given_up(step, value):
        return step.treatment
    return Treatment.DROPPED if value is None else Treatment.REDACTED


def _why(step: Step, value: str | None, role: str) -> str:
    who = f'role "{role}"' if role else "a caller of no named role"
    if _given_up(step, value):
        return f"the value could not be {step.treatment.value}; on_error says {step.rule.on_error.value}"
    if step.treatment is not Treatment.ENCRYPTED:
        return _WHY[step.treatment].format(role=who)
    if not step.classified:
        return "no rule knows it; the policy encrypts such fields"
    if step.token is not None and value is not None and Form.TOKEN in dict(step.rule.write or _TOKEN_ONLY).values():
        stays = step.leaf.text in value  # perhaps among companions
        return "is a token already and stays" if stays else "looks like a token but does not open: it is clear text"
    if step.rule.reveal_for(role) is Reveal.KEEP:
        return f"{who} gets no more than the token"
    return "the class encrypts"


def selector_of(form: str, path: Path) -> str:
    """The selector of one leaf, as an author would write it."""
    return pattern_text(form, path)


def pattern_text(form: str, pattern: Pattern) -> str:
    """The selector with this pattern, as an author would write it."""
    stages: list[tuple[str, list[Segment]]] = [(form, [])]
    for segment in pattern:
        if isinstance(segment, Into):
            stages.append((segment.value, []))
        else:
            stages[-1][1].append(segment)
    return " > ".join(_stage_text(*stage) for stage in stages)


def _stage_text(form: str, segments: list[Segment]) -> str:
    if form == "json":
        return "json:$" + "".join(_json_segment(segment) for segment in segments)
    names = ("*" if segment is ANY else str(segment) for segment in segments)
    return ("xml:/" if form == "xml" else f"{form}:") + "/".join(names)


def _json_segment(segment: Segment) -> str:
    if isinstance(segment, Any_):
        return "[*]"
    if not isinstance(segment, str):
        return f"[{segment}]"
    if segment.isascii() and segment.isidentifier():
        return f".{segment}"
    return f'["{segment}"]' if "'" in segment else f"['{segment}']"
