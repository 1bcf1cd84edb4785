"""Ways round the check that nothing a follower wrote is opened towards WeChat, and other things authors must not be
able to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.document.head import read_path
from proxy.document.json_body import read_json
from proxy.document.tree import Value, render
from proxy.emulate.stage import POLICIES
from proxy.policy.rules import Direction
from proxy.policy.selector import parse_selector
from proxy.serve.settings import load_settings
from proxy.source.problem import Problems
from tests.policy.build import House, codes, compiled, refused
from tests.serve.settings_cases import CONFIG, SECRETS

FOLLOWER = """\
version: 1
classes: {words: {action: encrypt}}
messages:
  - name: text
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/MsgType: allow
      xml:/xml/Content: {class: words, as: note}
"""
OPENS = """\
version: 1
classes: {words: {action: encrypt}}
messages:
  - name: send
    direction: outbound
    match: {method: POST, path: /cgi-bin/message/custom/send}
    request:
      json:$.text.content: {class: words, as: note, reveal: {'*': plain}}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "certs").mkdir()
    for name in ("a.pem", "a.key", "b.pem", "b.key", "ca.pem"):
        (tmp_path / "certs" / name).write_text("any")
    (tmp_path / "secrets").mkdir()
    for name, value in SECRETS.items():
        (tmp_path / "secrets" / name).write_text(value)
        (tmp_path / "secrets" / name).chmod(0o600)
    (tmp_path / "policies").symlink_to(POLICIES)
    (tmp_path / "follower.yaml").write_text(FOLLOWER)
    (tmp_path / "opens.yaml").write_text(OPENS)
    return tmp_path


def found(directory: Path, config: str) -> list[str]:
    """Codes and files of the problems, if there are any."""
    file = directory / "gateway.yaml"
    file.write_text(config)
    try:
        load_settings(file)
    except Problems as problems:
        return [f"{it.code} {Path(it.place.file).name}" for it in problems.found if not it.warning]
    return []


def routed(follower: str, opens: str) -> str:
    parts = CONFIG.split("policy: policies/wechat-crm.yaml")
    assert len(parts) == 3
    return f"{parts[0]}policy: {follower}{parts[1]}policy: {opens}{parts[2]}"


def test_two_policies_of_one_tenant_make_no_oracle_together(directory: Path) -> None:
    """Each compiles: one only seals, the other only opens. A token does not say which policy made it."""
    assert found(directory, routed("follower.yaml", "opens.yaml")) == ["reveal-oracle opens.yaml"]


def test_policies_of_two_tenants_have_nothing_in_common(directory: Path) -> None:
    config = routed("follower.yaml", "opens.yaml").replace(
        "    upstream_budget", "    tenant: other\n    upstream_budget"
    )
    assert found(directory, config) == []


@pytest.mark.parametrize("token", ["тайна-тайна", "ab", "with-a-dash", "x" * 33])
def test_a_token_that_is_not_of_wechats_form_is_refused(directory: Path, token: str) -> None:
    """Letters that are not ASCII would all be read as the same replacement character: anybody could sign."""
    (directory / "secrets" / "token").write_text(token)
    assert "secret gateway.yaml" in found(directory, CONFIG)


@pytest.mark.parametrize("text", ["a/../../admin", "..%2Fadmin", "a\\b", "a;b", "..", ""])
def test_an_opened_value_does_not_bend_the_path(text: str) -> None:
    """As %2F it is still a slash for a server that decodes before it routes."""
    document = read_path("/a/TOKEN", [None, "id"])
    assert refused(lambda: render(document, {0: Value(text)})) == "value_refused"


@pytest.mark.parametrize("name", ["wxgate-delivery", "wxgate-route", "host", "authorization", "content-length"])
def test_no_policy_lets_a_caller_write_the_gateways_own_fields(name: str) -> None:
    with pytest.raises(ValueError, match="own"):
        parse_selector(f"header:{name}")


COMPANION = """\
version: 1
defaults: {unmatched: encrypt}
classes: {words: {action: encrypt, mask: {keep_first: 2}, normalise: [trim], index: {}}}
messages:
  - name: call
    direction: DIRECTION
    match: {method: POST, path: /call}
    PHASE:
      json:$.Text: {class: words, as: words, write: {Text: token, Start: mask}}
"""


@pytest.mark.parametrize(("direction", "phase"), [("outbound", "request"), ("agent", "response")])
def test_a_companion_is_no_way_to_open_half_a_token(direction: str, phase: str) -> None:
    """It is made of what the token says, and `reveal` with its roles is not asked."""
    assert codes(COMPANION.replace("DIRECTION", direction).replace("PHASE", phase)) == ["write-action"]


@pytest.mark.parametrize("other", ['"Start":{"a":1}', '"Start":[1]', '"Start":{}', '"Start":"x"'])
def test_a_companion_never_stands_beside_a_member_of_its_name(other: str) -> None:
    house = House(compiled(COMPANION.replace("DIRECTION", "agent").replace("PHASE", "request")))
    rules = house.rules(Direction.AGENT, "POST", "/call")
    for body in (f'{{"Text":"words",{other}}}', f'{{{other},"Text":"words"}}'):
        document = read_json(body.encode())
        assert refused(lambda document=document: house.carry(rules, document)) == "value_refused"  # type: ignore[misc]
