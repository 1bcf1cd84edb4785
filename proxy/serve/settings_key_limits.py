"""How long and how much keys may be used, from the `keys` section of gateway.yaml."""

from __future__ import annotations

from proxy.kms.limits import DAY, KeyLimits
from proxy.source.section import Section

# NIST SP 800-38D, section 8.3: values under one key with random nonces.
_MOST_USES = 2**32
_MOST_BYTES = 2**50


def read_limits(section: Section) -> KeyLimits:
    """What is said of `cache`, `budget`, `rotate_after`, `activate_after` and `refresh`; the defaults for the rest."""
    base = KeyLimits()
    age, cache_uses, cache_size = base.cache_age, base.cache_uses, base.cache_size
    if (cache := section.section("cache")) is not None:
        age = cache.duration("age", age, most=DAY)
        cache_uses = cache.number("uses", cache_uses, least=1, most=_MOST_USES)
        cache_size = cache.size("bytes", cache_size, least=1024, most=_MOST_BYTES)
        cache.done()
    uses, size = base.budget_uses, base.budget_size
    if (budget := section.section("budget")) is not None:
        uses = budget.number("uses", uses, least=16, most=_MOST_USES)
        size = budget.size("bytes", size, least=1024 * 1024, most=_MOST_BYTES)
        budget.done()
    rotate = section.duration("rotate_after", base.rotate_after, most=3650 * DAY)
    place = section.place
    activate = section.duration("activate_after", base.activate_after, most=DAY)
    refresh = section.duration("refresh", base.refresh, most=60.0)
    if activate < 3 * refresh:
        message = (
            '"activate_after" must be three times "refresh" at least: every process must know a key before its use'
        )
        section.problem(place, "wrong-value", message)
    if rotate < 2 * activate:
        section.problem(place, "wrong-value", '"rotate_after" must be twice "activate_after" at least')
    return KeyLimits(age, cache_uses, cache_size, uses, size, rotate, activate, refresh)
