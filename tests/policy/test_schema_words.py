"""Every word of the language has its meaning, and no meaning is left over."""

import json

from proxy.policy.plan import Treatment
from proxy.policy.rules import Action, Direction, OnError, Phase, Reveal
from proxy.policy.schema import policy_schema
from proxy.policy.schema_words import KEYS, MEANINGS
from proxy.policy.transform import Form


def test_every_word_has_its_meaning() -> None:
    words = [member for kind in (Action, Direction, Form, OnError, Phase, Reveal, Treatment) for member in kind]
    assert set(MEANINGS) == set(words)
    assert all(meaning and "\n" not in meaning for meaning in MEANINGS.values())


def test_every_explanation_is_shown_somewhere() -> None:
    schema = json.dumps(policy_schema(), ensure_ascii=False)
    unused = [name for name, text in KEYS.items() if json.dumps(text, ensure_ascii=False)[1:-1] not in schema]
    assert unused == []
