"""The answer table: complete, raised, explained, static, and right for each audience."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from proxy.refusal import TABLE, Audience, Refusal, Wechat, answer

ROOT = Path(__file__).parents[1]
CODES = sorted(TABLE)


def raised() -> set[str]:
    """The codes that stand in the rooms that refuse: as strings, in or near a Refusal. Programs and emulators only
    speak of codes."""
    found = set()
    for path in (ROOT / "proxy").rglob("*.py"):
        if path.relative_to(ROOT / "proxy").parts[0] in ("refusal.py", "cli", "serve", "admin", "emulate", "attack"):
            continue
        tree = ast.parse(path.read_bytes())
        found |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in TABLE}
    return found


def entries() -> dict[str, str]:
    text = (ROOT / "docs" / "errors.md").read_text()
    (section,) = [part for part in re.split(r"^## ", text, flags=re.M) if part.startswith("Refusals\n")]
    parts = re.split(r"^### (.+)\n", section, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_code_is_raised_somewhere() -> None:
    assert not TABLE.keys() - raised()


def test_every_code_that_is_raised_is_in_the_table() -> None:
    for path in (ROOT / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Refusal" and node.args:
                literals = {item.value for item in ast.walk(node.args[0]) if isinstance(item, ast.Constant)}
                codes = {item for item in literals if isinstance(item, str) and item}
                assert codes <= TABLE.keys(), f"{path.name}:{node.lineno}"


def test_every_code_has_its_entry_and_every_entry_its_code() -> None:
    assert entries().keys() == TABLE.keys()


@pytest.mark.parametrize("code", sorted(entries()))
def test_an_entry_says_what_it_means_what_to_do_and_what_callers_get(code: str) -> None:
    lines = entries()[code].strip().splitlines()
    assert [line.split(":")[0] for line in lines] == ["- Means", "- Cause", "- Fix", "- Gets"]
    assert lines[-1] == f"- Gets: {_gets(code)}"


def _gets(code: str) -> str:
    """What the four audiences get, asked of `answer` itself."""
    wechat, crm, agent = (answer(Refusal(code), who) for who in (Audience.WECHAT, Audience.CRM, Audience.AGENT))
    assert crm == agent
    again = f"Again: {'yes' if TABLE[code].again else 'no'}."
    if wechat == crm:
        return f"WeChat, CRM and agent {crm.status}. {again}"
    received = " `success`" if wechat.body == b"success" else ""
    return f"WeChat {wechat.status}{received}; CRM and agent {crm.status}. {again}"


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("audience", [Audience.HTTP, Audience.CRM, Audience.AGENT])
def test_callers_get_static_json(code: str, audience: Audience) -> None:
    out = answer(Refusal(code), audience)
    row = TABLE[code]
    assert out.status == row.status
    assert out.content_type == b"application/json"
    assert json.loads(out.body) == {"error": {"code": code, "message": row.message, "retry": row.again}}


@pytest.mark.parametrize("code", CODES)
def test_wechat_gets_received_again_or_denied_once_its_route_is_known(code: str) -> None:
    out = answer(Refusal(code), Audience.WECHAT)
    if TABLE[code].stage in ("http", "route"):
        assert out == answer(Refusal(code), Audience.HTTP)
    else:
        assert (out.status, out.body) in {(200, b"success"), (503, b""), (403, b"")}
        assert (out.status, out.body) == TABLE[code].wechat.value


def test_only_what_was_proved_to_be_wechats_is_told_to_be_received() -> None:
    unproved = {"http", "route", "admit", "verify", "open"}
    assert not {code for code, row in TABLE.items() if row.wechat is Wechat.RECEIVED and row.stage in unproved}


@pytest.mark.parametrize("code", CODES)
def test_statuses_are_errors_and_messages_say_nothing_of_a_request(code: str) -> None:
    row = TABLE[code]
    assert 400 <= row.status < 600
    assert row.again == (row.wechat is Wechat.AGAIN)
    assert re.fullmatch(r"[a-zA-Z0-9/.:' ,-]{10,80}", row.message)
    assert (row.status >= 500) or not row.again


def test_an_upstreams_status_is_the_only_thing_added() -> None:
    body = json.loads(answer(Refusal("upstream_failed", upstream_status=503), Audience.CRM).body)
    assert body["error"].pop("upstream_status") == 503
    assert body == json.loads(answer(Refusal("upstream_failed"), Audience.CRM).body)


def test_a_refusal_carries_its_code_alone() -> None:
    refusal = Refusal("token_refused", upstream_status=500)
    assert vars(refusal).keys() == {"code", "row", "upstream_status"}
    assert str(refusal) == "token_refused"
    with pytest.raises(KeyError):
        Refusal("no_such_code")
