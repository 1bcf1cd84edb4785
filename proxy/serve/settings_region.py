"""`region:` of gateway.yaml: a code, or the code with what the region's law asks of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.source.section import Section

CODE = r"[a-z]{2}"
HINT = "a lower-case ISO 3166 code such as cn"
_REASON = r"[^\x00-\x1f\x7f]{1,200}"


@dataclass(frozen=True, slots=True)
class DiskDemand:
    """What is asked of the disk under the state directory. `required`: the machine must show that it is encrypted.
    `attested`: the deployer's word that it is, where the machine cannot see it; the reason stands in the audit log."""

    required: bool = False
    attested: str = ""


NOTHING = DiskDemand()


def read_region(top: Section) -> tuple[str, DiskDemand]:
    """Code and demand under `region`."""
    if not top.is_mapping("region"):
        return top.text("region", pattern=CODE, required=True, hint=HINT), NOTHING
    section = top.section("region", required=True)
    if section is None:
        return "", NOTHING
    code = section.text("code", pattern=CODE, required=True, hint=HINT)
    demand = _demand(section)
    section.done()
    return code, demand


def _demand(section: Section) -> DiskDemand:
    if not section.is_mapping("full_disk_encryption"):
        return DiskDemand(required=section.choice("full_disk_encryption", ("required",)) == "required")
    inner = section.section("full_disk_encryption")
    if inner is None:
        return NOTHING
    reason = inner.text("attested", pattern=_REASON, required=True, hint="a reason in at most 200 characters")
    inner.done()
    return DiskDemand(attested=reason)
