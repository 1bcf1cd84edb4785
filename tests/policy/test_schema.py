"""The JSON Schema of policies, by a validator that knows nothing of wxgate."""

import json
from collections import defaultdict
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from proxy.policy.compile import compile_policy
from proxy.policy.rules import Action
from proxy.policy.schema import policy_schema
from proxy.source.section import Section
from proxy.source.yaml_reader import Mapping, Node, Scalar, read_yaml
from tests.policy.build import codes, compiled

POLICIES = Path(__file__).parents[2] / "policies"
SCHEMA = policy_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
FULL = """version: 1
extends: [base.yaml]
defaults: {unmatched: encrypt}
classes:
  secret: {action: encrypt, deterministic: false, mask: {keep_first: 1, keep_last: 4}, group: chat}
  id: {action: encrypt, deterministic: true}
  name: {action: mask, mask: {kind: name, keep_first: 0}}
  phone:
    action: encrypt
    mask: {kind: phone}
    normalise: [e164]
    country: '86'
    index: {bits: 64, spelling: base32, normalise: [nfkc, e164], country: '1'}
    alphabet: digits
    text: gone
  fixed: {action: redact, text: '***'}
  kept: {action: format_preserving, alphabet: 零一二三四五六七八九}
  hashed: {action: hash, normalise: [trim, digits]}
  searched: {action: index}
patterns: {order: 'SO-([0-9]{6,10})'}
variants:
  - when: {tenant: [acme, beta], region: cn}
    defaults: {unmatched: refuse}
    classes: {fixed: {action: redact, text: '-'}}
common:
  - direction: inbound
    request:
      xml:/xml/From: {class: id, as: openid}
      json:$.From: {class: id, as: openid}
  - direction: agent
    request: {path:version: allow, query:q: refuse}
messages:
  - name: push
    direction: inbound
    match: {type: Text}
    request:
      xml:/xml/a: {class: secret, as: a, bind: [openid], on_error: redact}
      xml:/xml/PicUrl: {action: allow, as: pic, because: it is public}
      xml:/xml/*/b: {action: drop}
      xml:/xml/Phone: {class: phone, as: phone, write: {Phone: mask, _p: token, Ix: index}, fits: crm:A.B__c, max: 20}
  - {name: event, direction: inbound, match: {type: EVENT, event: CLICK}, request: {"json:$['*']['a b'][0].é": allow}}
  - name: reply
    direction: inbound
    match: {reply: text}
    response: {xml:/xml/Content: {class: secret, as: reply, reveal: {'*': plain, clerk: mask}}}
  - name: call
    direction: agent
    match: {method: PATCH, path: '/data/v1.0/{id}', role: [agent, clerk], content_type: application/json}
    request: {path:id: allow, header:if-match: drop, form:a: {class: secret, as: b}, query:x: allow}
    response:
      json:$.a: {class: secret, as: b, bind: [], reveal: {agent: keep}}
      json:$.l[*]: refuse
      json:$.t > within:order: {class: secret, as: b, reveal: {'*': plain}}
      json:$.t > within:rest: {action: allow, because: the CRM writes it}
      json:$.u > base64:text > json:$.x: drop
    errors: {4xx: {json:$.message: drop}, 5xx: {}}
tests:
  - {sample: s.xml, direction: agent, phase: response, method: GET, path: /x, role: r, expect: {json:$.a: revealed}}
"""


def plain(node: Node) -> object:
    """What any reader of YAML 1.2 makes of the file."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Mapping):
        return {key.text: plain(value) for key, value in node.entries}
    return [plain(item) for item in node.items]


def accepted(text: str | bytes) -> bool:
    data = text.encode() if isinstance(text, str) else text
    return bool(VALIDATOR.is_valid(plain(read_yaml(data, "p.yaml"))))


def message(rules: str, match: str = "{type: text}", direction: str = "inbound", phase: str = "request") -> str:
    entry = f"{{name: m, direction: {direction}, match: {match}, {phase}: {{{rules}}}}}"
    return f"version: 1\nclasses: {{s: {{action: encrypt}}}}\nmessages: [{entry}]"


def call(rules: str, *, direction: str = "agent", phase: str = "request", path: str = "'/a/{id}'") -> str:
    return message(rules, f"{{method: GET, path: {path}}}", direction, phase)


def test_the_schema_is_one_and_is_json() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("file", sorted(POLICIES.glob("*.yaml")), ids=lambda file: file.name)
def test_every_shipped_policy_is_valid(file: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(plain(read_yaml(file.read_bytes(), "p.yaml")))] == []


def test_a_policy_with_every_key_is_valid_and_compiles() -> None:
    compiled(FULL, base="version: 1")
    assert [error.message for error in VALIDATOR.iter_errors(plain(read_yaml(FULL.encode(), "p.yaml")))] == []


@pytest.mark.parametrize("action", Action)
def test_every_action_is_known_and_needs_what_the_compiler_needs(action: Action) -> None:
    text = f"version: 1\nclasses: {{c: {{action: {action.value}, mask: {{}}, text: x, alphabet: digits}}}}"
    compiled(text)
    assert accepted(text)
    bare = f"version: 1\nclasses: {{c: {{action: {action.value}}}}}"
    assert accepted(bare) == _compiles(bare)


def _compiles(text: str) -> bool:
    try:
        compile_policy("p.yaml", lambda _: text.encode())
    except Exception:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "words", "a: 1", "{}", "version: 2", "version: '1'", "version: 1\nmesages: []"),
        *("version: 1\nextends: base.yaml", "version: 1\nextends: [[b]]", "version: 1\nextends: [1]"),
        *("version: 1\ndefaults: {unmatched: allow}", "version: 1\ndefaults: {unmatch: refuse}"),
        *("version: 1\ndefaults: []", "version: 1\nclasses: []", "version: 1\nclasses: {a: encrypt}"),
        *(
            f"version: 1\nclasses: {{a: {{{keys}}}}}"
            for keys in (
                *("", "action: encript", "action: encrypt, determinstic: true", "action: encrypt, deterministic: yes"),
                *("action: drop, deterministic: true", "action: mask", "action: redact", "action: format_preserving"),
                *("action: mask, mask: {keep_last: 33}", "action: mask, mask: {keep: 3}", "action: mask, mask: phone"),
                *("action: mask, mask: {kind: face}", "action: mask, mask: {kind: name, keep_last: 1}"),
                *("action: encrypt, group: Chat", "action: redact, text: ''", 'action: redact, text: "a\\nb"'),
                *(
                    "action: encrypt, index: {bits: 31}",
                    "action: encrypt, index: {bits: 264}",
                    "action: hash, index: 64",
                ),
                *("action: encrypt, index: {bits: '64'}", "action: encrypt, index: {spelling: base64}"),
                *("action: encrypt, index: {bits: 33}", "action: encrypt, index: {country: '86'}"),
                *("action: hash, normalise: trim", "action: hash, normalise: [upper]", "action: hash, country: '86'"),
                *("action: hash, normalise: [trim, trim]", "action: hash, normalise: [digits, e164]"),
                *("action: hash, normalise: [e164], country: 86", "action: hash, normalise: [e164], country: '999'"),
                *(
                    "action: encrypt, alphabet: a",
                    "action: encrypt, alphabet: 12345",
                    'action: hash, alphabet: "ab\\t"',
                ),
            )
        ),
        *("version: 1\nmessages: {}", "version: 1\nmessages: [m]", "version: 1\nmessages: [{}]"),
        *("version: 1\ncommon: [{direction: inbound, name: x}]", "version: 1\ncommon: [{direction: sideways}]"),
        *("version: 1\ncommon: [{}]", "version: 1\ncommon: [{direction: inbound, request: {a: allow}}]"),
        *(message("xml:/xml/a: drop", name) for name in ("{typ: text}", "{type: text, method: GET}", "{}", "text")),
        *(
            message("xml:/xml/a: drop", name)
            for name in ("{type: event}", "{event: subscribe}", "{type: text, event: x}")
        ),
        *(message("xml:/xml/a: drop", name) for name in ("{type: text, reply: text}", "{type: a.b}", "{type: 1}")),
        *(message("xml:/xml/a: drop", name) for name in ("{reply: text}", "{reply: event}", "{type: ''}")),
        message("xml:/xml/a: drop", phase="response"),
        message("xml:/xml/a: drop", phase="errors"),
        message("xml:/xml/a: drop").replace("name: m", "name: 'a b'"),
        message("xml:/xml/a: drop").replace("name: m, ", ""),
        message("xml:/xml/a: drop").replace("direction: inbound, ", ""),
        message("xml:/xml/a: drop").replace("direction: inbound", "direction: sideways"),
        *(
            message(f"{selector}: drop")
            for selector in ("Content", "xml:/xml", "xml:xml/a", "xml:/x/a b", "'xml:/x/9'")
        ),
        *(
            message(f"{selector}: drop")
            for selector in ("json:$", "json:$..a", "json:a", "'json:$.a[01]'", "'json:$.a[?x]'")
        ),
        *(message(f"{selector}: drop") for selector in ("query:a", "path:id", "header:x", "multipart:a")),
        message("xml:/xml/a: drop, json:$.a: drop"),
        *(message(f"xml:/xml/a: {rule}") for rule in ("alow", "encrypt", "[allow]", "{}", "1", "{as: a}")),
        *(
            message(f"xml:/xml/a: {{{rule}}}")
            for rule in (
                *("action: drop, class: s, as: a", "action: mask", "class: [s], as: a", "class: s, as: 'a b'"),
                *("class: s, as: a, biind: [b]", "class: s, as: a, bind: b", "action: allow, bind: [b]"),
                *("class: s, as: a, reveal: {'*': plain}", "class: s, as: a, reveal: plain", "class: s, as: a, max: 3"),
                *(
                    "class: s, as: a, on_error: stop",
                    "action: drop, on_error: redact",
                    "action: drop, write: {a: token}",
                ),
                *(
                    "class: s, as: a, write: {a: tokens}",
                    "class: s, as: a, write: {9a: token}",
                    "class: s, as: a, write: [a]",
                ),
                *(
                    "class: s, as: a, fits: A.b",
                    "class: s, as: a, fits: crm:A.b, max: 0",
                    "action: drop, fits: crm:A.b",
                ),
            )
        ),
        *(message(f"{selector}: allow") for selector in ("xml:/xml/*", "xml:/*/a", "'json:$.a[*].b'", "json:$.*")),
        message("xml:/xml/*: {action: allow}"),
        *(call(f"path:id: {rule}") for rule in ("drop", "{action: drop}", "{class: s, as: a, on_error: drop}")),
        call("path:id: {class: s, as: a, write: {a: token}}"),
        *(call(f"path:id: allow, header:{name}: drop") for name in ("host", "Accept", "content-length")),
        *(call(f"path:id: allow, {selector}: drop") for selector in ("path:Id", "'query:a b'", "'form:'")),
        *(call("", path=path) for path in ("a", "/", "/a//b", "/a/..", "'/a?b'", "'/{A}'", "/a/", "/" + "a" * 512)),
        call("").replace("GET", "get"),
        call("path:id: allow").replace("method: GET", "type: text"),
        call("path:id: allow, json:$.a: drop, form:a: drop"),
        call("query:a: drop", phase="response", path="/a"),
        call("json:$.a: {class: s, as: a, write: {a: token}}", phase="response", path="/a"),
        call("json:$.a: {class: s, as: a, reveal: {'*': clear}}", phase="response", path="/a"),
        call("json:$.a: {class: s, as: a, reveal: {'*': plain}, fits: crm:A.b}", phase="response", path="/a"),
        call("json:$.a: {class: s, as: a, reveal: {'*': plain}}", direction="outbound", phase="response", path="/a"),
        call("2xx: {}", phase="errors", path="/a"),
        *("version: 1\ntests: [{expect: {}}]", "version: 1\ntests: [{sample: a}]", "version: 1\ntests: {}"),
        "version: 1\ntests: [{sample: a, expect: {Content: allowed}}]",
        "version: 1\ntests: [{sample: a, expect: {'xml:/xml/a': encrypt}}]",
        "version: 1\ntests: [{sample: a, expects: {}, expect: {}}]",
        "version: 1\ntests: [{sample: a, phase: answer, expect: {}}]",
        "version: 1\ntests: [{sample: a, headers: {Host: a}, expect: {}}]",
        "version: 1\ntests: [{sample: a, headers: {x: [a]}, expect: {}}]",
        "version: 1\ntests: [{sample: a, status: 99, expect: {}}]",
    ],
)
def test_what_the_compiler_refuses_for_its_shape_the_schema_refuses(text: str) -> None:
    assert codes(text)
    assert not accepted(text)


def test_the_schema_knows_the_keys_the_reader_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: defaultdict[str, set[str]] = defaultdict(set)
    take = Section.take

    def noted(section: Section, key: str, *, required: bool = False) -> Node | None:
        asked[section.what.split(' for "')[0].split(' "')[0]].add(key)
        return take(section, key, required=required)

    monkeypatch.setattr(Section, "take", noted)
    compiled(FULL, base="version: 1")
    definitions = SCHEMA["$defs"]
    assert isinstance(definitions, dict)
    data_class, rule = definitions["class"]["properties"], definitions["rule"]["anyOf"][1]["properties"]
    known = {
        "a policy": SCHEMA["properties"],
        '"defaults"': SCHEMA["properties"]["defaults"]["properties"],  # type: ignore[index]
        "class": data_class,
        '"mask"': data_class["mask"]["properties"],
        '"index"': data_class["index"]["properties"],
        "a message entry": definitions["message"]["properties"],
        "a common entry": definitions["common"]["properties"],
        "the rule": {*rule, "reveal"},
        "a test entry": definitions["test"]["properties"],
    }
    assert {what: asked[what] for what in known} == {what: set(keys) for what, keys in known.items()}


def test_every_word_has_its_hover() -> None:
    bare = [
        f"{place}.{name}"
        for place, schema in {"top": SCHEMA, **SCHEMA["$defs"]}.items()  # type: ignore[dict-item]
        for name, member in schema.get("properties", {}).items()
        if "description" not in member
    ]
    assert bare == []
