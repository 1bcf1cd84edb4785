"""What docs/errors.md says of a code, for reports that carry their own help. The page travels with the package."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_LINE = re.compile(r"^- (Means|Cause|Fix): (.+)$", re.M)


@dataclass(frozen=True, slots=True)
class Help:
    """The entry of one code, in Markdown."""

    means: str
    cause: str
    fix: str


@cache
def problem_help() -> Mapping[str, Help]:
    """The entries of "Problems in files", by code."""
    page = Path(__file__).with_name("errors.md").read_text("utf-8")
    section = page.partition("\n## Problems in files\n")[2].partition("\n## ")[0]
    parts = re.split(r"^### (\S+)\n", section, flags=re.M)[1:]
    entries = zip(parts[::2], (dict(_LINE.findall(part)) for part in parts[1::2]), strict=True)
    return {code: Help(said["Means"], said["Cause"], said["Fix"]) for code, said in entries}
