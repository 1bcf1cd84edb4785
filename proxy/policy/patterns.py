"""Patterns for parts of a text, as `within:` selectors name them. Pure.

The engine is RE2 (github.com/google/re2/wiki/Syntax): time linear in the text, no backtracking, no look-around.
"""

from __future__ import annotations

import re

import re2

from proxy.document.parts import REST, Finder

MAX_PATTERN = 256  # characters
MAX_PATTERNS = 32
MAX_REPEATS = 64
_REPEATS = re.compile(r"(?<!\\x)\{(?:\d+,)?(\d+)\}", re.ASCII)
NAME = r"[a-z][a-z0-9_-]{0,31}"

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


def compile_pattern(name: str, pattern: str) -> Finder:
    """What finds the parts called `name`. ValueError with a sentence for the author."""
    if not 0 < len(pattern) <= MAX_PATTERN:
        raise ValueError(f"a pattern has 1 to {MAX_PATTERN} characters")
    if name == REST:
        raise ValueError(f'"{REST}" is what no pattern finds; choose another name')
    if any(int(most) > MAX_REPEATS for most in _REPEATS.findall(pattern)):
        raise ValueError(f"it repeats something more than {MAX_REPEATS} times; write + or * for any number")
    try:
        compiled = re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"it is no RE2 pattern: {text}") from None
    if compiled.groups > 1:
        raise ValueError("it has more than one group; write (?:...) for all but the part that is meant")
    if compiled.fullmatch("") is not None:
        raise ValueError("it matches the empty text")
    return Finder(name, compiled)


# A token as docs/spec/token.md spells it; a name someone is mentioned by, which WeChat ends with U+2005; without that,
# up to the next blank.
BUILT_IN = {
    finder.name: finder
    for finder in (
        compile_pattern("token", r"\b(w(?:[gnl][12]\.[A-Za-z0-9_-]{20,}|d[12]\.[a-z2-7]{20,}))"),
        compile_pattern("mention", r"[@＠]([^@＠\x{2005}\n]{1,64}\x{2005}|[^@＠\x{2005}\x{3000}\s]{1,64})"),
    )
}
