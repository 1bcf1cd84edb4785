"""The decryption oracle: what a follower wrote must never be opened on the way back to WeChat. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.policy.compiled import Policy
from proxy.policy.rules import UNCLASSIFIED, Direction, Phase, Rule, RuleSet
from proxy.source.problem import Problem

# Where WeChat's API takes the person a message is for. A follower's id may be revealed there and nowhere else.
ADDRESSEES = frozenset({("touser",), ("openid",), ("ToUserName",), ("xml", "ToUserName")})


def oracles(policy: Policy, written: Iterable[Policy]) -> list[Problem]:
    """What came from WeChat must never be opened on the way back there: the CRM could have it sent to itself.

    `written`: the policies by which it is sealed. A token does not know its policy, so all of a tenant's count.
    The one exception is the follower's id: deterministic, and only where the API takes an addressee.
    """
    data = {rule.datum for it in written for rules in _written_by_followers(it) for rule in rules.rules if rule.datum}
    data.add(UNCLASSIFIED.name)
    fix = 'give what the agent writes an "as" of its own'
    return [
        Problem(
            rule.place,
            "reveal-oracle",
            f'"{rule.datum}" is what a follower wrote; it cannot be revealed towards WeChat',
            fix,
        )
        for rule in _revealed_towards_wechat(policy)
        if rule.datum in data and not _names_addressee(rule)
    ]


def _written_by_followers(policy: Policy) -> Iterable[RuleSet]:
    """Every rule set that reads what WeChat sent: pushes of known and unknown types, and its answers to API calls."""
    yield from policy.inbound_rules(Phase.REQUEST)
    outbound = [call for call in policy.calls if call.direction is Direction.OUTBOUND]
    yield from (rules for call in outbound for rules in (call.response, *call.errors.values()))


def _revealed_towards_wechat(policy: Policy) -> Iterable[Rule]:
    outbound = [call.request for call in policy.calls if call.direction is Direction.OUTBOUND]
    for rules in (*outbound, *policy.inbound_rules(Phase.RESPONSE)):
        yield from (rule for rule in rules.rules if rule.reveal is not None)


def _names_addressee(rule: Rule) -> bool:
    deterministic = rule.data_class is not None and rule.data_class.deterministic
    return deterministic and rule.selector is not None and rule.selector.pattern in ADDRESSEES
