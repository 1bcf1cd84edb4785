"""Whose a message is and who sends it: what `match` and `when` may ask besides what kind of message it is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.record import record


@record
class Situation:
    """What a route and its caller say of a message. `content_type`: of a call's request, in lower case, without
    parameters. Empty for what is not known."""

    account: str = ""
    tenant: str = ""
    region: str = ""
    role: str = ""
    content_type: str = ""


ANYWHERE = Situation()
OF_OWNERS = ("tenant", "region")
"""Conditions of variants: what a route says once and for all."""
OF_PUSHES = ("account", *OF_OWNERS)
OF_CALLS = (*OF_OWNERS, "role", "content_type")

# What the values of each condition look like; a place-holder would match nothing, silently.
SHAPES = {
    "account": r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "tenant": r"[a-z0-9][a-z0-9-]{0,63}",
    "region": r"[a-z]{2}(-[a-z0-9]{1,3})?",
    "role": r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "content_type": r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}",
}


@dataclass(frozen=True, slots=True)
class Conditions:
    """Name of each condition with the values that fulfil it; all must hold."""

    wanted: tuple[tuple[str, frozenset[str]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.wanted)

    def __str__(self) -> str:
        return ", ".join(f"{name} {' or '.join(sorted(values))}" for name, values in self.wanted)

    def admit(self, situation: Situation) -> bool:
        return all(getattr(situation, name) in values for name, values in self.wanted)

    def overlap(self, other: Conditions) -> bool:
        """Whether one situation can fulfil both."""
        others = dict(other.wanted)
        return all(name not in others or values & others[name] for name, values in self.wanted)


ALWAYS = Conditions()
