"""Path, header fields and forms over sockets: what the CRM gets of them is what the policy says, byte by byte."""

from __future__ import annotations

import dataclasses
import json
from urllib.parse import parse_qsl

import pytest

from proxy.emulate.server import Call, Result
from proxy.policy.compile import compile_policy
from tests.promises.house import Answer, House, http

POLICY = b"""version: 1
classes:
  id: {action: encrypt, deterministic: true}
  words: {action: encrypt}
messages:
  - name: changes
    direction: agent
    match: {method: POST, path: '/services/data/{version}/People/{id}'}
    request:
      path:version: allow
      path:id: {class: id, as: openid}
      query:mode: allow
      header:if-match: allow
      header:x-note: {class: words, as: note, bind: [openid]}
      form:text: {class: words, as: words, bind: [openid]}
    response:
      json:$.text: {class: words, as: words, bind: [openid], reveal: {agent: plain}}
      json:$.openid: {class: id, as: openid, reveal: {agent: plain}}
"""


class Crm:
    """Keeps the calls it got, and gives back what it was given."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def handle(self, call: Call) -> Result:
        self.calls.append(call)
        person, text = call.path.rpartition("/")[2], dict(parse_qsl(call.body.decode()))["text"]
        return Result(f'{{"openid": "{person}", "text": "{text}"}}'.encode(), 200)


@pytest.fixture
def crm(house: House) -> Crm:
    table = house.assembly.gateway.table
    agents = next(route for route in table.routes if route.name == "agents")
    policies = {**table.policies, agents.policy: compile_policy("p.yaml", lambda _name: POLICY)}
    house.assembly.gateway.table = dataclasses.replace(table, policies=policies)
    crm = Crm()
    house.crm_answers = crm.handle
    return crm


def ask(house: House, extra: str = "", *, person: str = "oSecretPerson", body: bytes = b"text=secret+words") -> Answer:
    bearer = f"Authorization: Bearer {house.files.secrets['agent-bearer']}\r\n"
    target = f"/services/data/v1/People/{person}?mode=full"
    return house.ask(house.files.internal, http("POST", target, body, bearer + extra))


def test_the_crm_gets_what_the_policy_says_and_the_agent_gets_it_back(house: House, crm: Crm) -> None:
    before = len(house.upstreams["crm"].received)
    got = ask(
        house, 'Cookie: session=secret\r\nX-Other: secret\r\nIf-Match: "7"\r\nX-Note: secret\r\nWxgate-Route: x\r\n'
    )
    assert got.status == 200, got.raw
    assert got.body == b'{"openid": "oSecretPerson", "text": "secret words"}'
    (call,) = crm.calls
    assert call.path.startswith("/services/data/v1/People/wd1.")
    assert call.query == "mode=full"
    assert call.body.startswith(b"text=wg1.")
    assert call.headers["if-match"] == '"7"'
    assert call.headers["x-note"].startswith("wg1.")
    assert call.headers["content-type"] == "application/x-www-form-urlencoded"
    assert not {"cookie", "x-other", "authorization", "wxgate-route"} & set(call.headers)
    sent = bytes(house.upstreams["crm"].received[before:])
    assert not [word for word in (b"ecret", house.files.secrets["agent-bearer"].encode()) if word in sent]


def test_the_token_of_a_person_can_stand_in_a_path(house: House, crm: Crm) -> None:
    ask(house)
    token = crm.calls[-1].path.rpartition("/")[2]
    assert ask(house, person=token).status == 200
    assert crm.calls[-1].path.rpartition("/")[2] == token


@pytest.mark.parametrize(
    ("extra", "person", "body"),
    [
        pytest.param("X-Note: a\r\nX-Note: b\r\n", "o1", b"text=a", id="a declared field twice"),
        pytest.param("X-Note: \xe9\r\n", "o1", b"text=a", id="a declared field not in ASCII"),
        pytest.param("", "%2e%2e", b"text=a", id="an escape in the path"),
        pytest.param("", "o1/x", b"text=a", id="another path"),
        pytest.param("", "o1", b"text=a&more=b", id="an undeclared parameter"),
        pytest.param("", "o1", b"text=a&text=b", id="a parameter twice"),
        pytest.param("Content-Type: application/json\r\n", "o1", b'{"text": "a"}', id="another body"),
    ],
)
def test_what_the_policy_does_not_know_never_reaches_the_crm(
    house: House, crm: Crm, extra: str, person: str, body: bytes
) -> None:
    sent = house.sent
    assert ask(house, extra, person=person, body=body).status in (400, 403, 404, 415, 422)
    assert (crm.calls, house.sent) == ([], sent)


UPLOAD = b"""version: 1
classes:
  words: {action: encrypt}
messages:
  - name: clerk-uploads
    direction: agent
    match: {method: POST, path: '/services/data/v1/upload', role: agent, content_type: multipart/form-data}
    request:
      multipart:meta/body > json:$.Title: {class: words, as: words}
      multipart:meta/type: allow
      multipart:photo/body: allow
      multipart:photo/filename: {class: words, as: file}
    response: {json:$.ok: allow}
  - name: clerk-writes
    direction: agent
    match: {method: POST, path: '/services/data/v1/upload', role: agent, content_type: application/json}
    request: {json:$.Title: {class: words, as: words}}
    response: {json:$.ok: allow}
  - name: elsewhere
    direction: agent
    match: {method: POST, path: '/services/data/v1/upload', role: agent, content_type: text/json, region: [au, jp]}
    request: {json:$.Title: allow}
    response: {json:$.ok: allow}
variants:
  - {when: {region: cn}, classes: {words: {action: redact, text: gone}}}
"""
PARTS = (
    b'--x\r\nContent-Disposition: form-data; name="meta"\r\nContent-Type: application/json\r\n\r\n'
    b'{"Title": "secret"}\r\n'
    b'--x\r\nContent-Disposition: form-data; name="photo"; filename="secret.jpg"\r\n\r\n\xff\xd8\r\n--x--\r\n'
)


class _Taking:
    def __init__(self) -> None:
        self.calls: list[Call] = []

    def handle(self, call: Call) -> Result:
        self.calls.append(call)
        return Result(b'{"ok": true}', 200)


def upload(house: House, content_type: str, body: bytes) -> tuple[Answer, list[Call]]:
    table = house.assembly.gateway.table
    agents = next(route for route in table.routes if route.name == "agents")
    moved = tuple(dataclasses.replace(it, region="cn") if it is agents else it for it in table.routes)
    policies = {**table.policies, agents.policy: compile_policy("p.yaml", lambda _name: UPLOAD)}
    house.assembly.gateway.table = dataclasses.replace(table, routes=moved, policies=policies)
    crm = _Taking()
    house.crm_answers = crm.handle
    head = f"Authorization: Bearer {house.files.secrets['agent-bearer']}\r\nContent-Type: {content_type}\r\n"
    return house.ask(house.files.internal, http("POST", "/services/data/v1/upload", body, head)), crm.calls


def test_an_upload_leaves_part_by_part_under_a_boundary_of_the_gateway(house: House) -> None:
    got, (call,) = upload(house, "multipart/form-data; boundary=x", PARTS)
    assert got.status == 200, got.raw
    assert call.headers["content-type"] == "multipart/form-data; boundary=wxgate-0"
    assert call.body == PARTS.replace(b"--x", b"--wxgate-0").replace(b"secret.jpg", b"gone").replace(b"secret", b"gone")


def test_the_media_type_tells_one_call_from_another(house: House) -> None:
    _, (call,) = upload(house, "Application/JSON; charset=utf-8", b'{"Title": "secret"}')
    assert call.body == b'{"Title": "gone"}'


@pytest.mark.parametrize("content_type", ["text/json", "text/plain", "application/json\r\nContent-Type: text/json", ""])
def test_a_call_of_no_such_media_type_or_region_is_unknown(house: House, content_type: str) -> None:
    got, calls = upload(house, content_type, b'{"Title": "secret"}')
    assert (got.status, calls) == (422, [])


def test_a_field_that_is_encrypted_for_want_of_a_rule_is_an_alarm_without_its_name(house: House, crm: Crm) -> None:
    table = house.assembly.gateway.table
    unmatched = POLICY.replace(b"classes:", b"defaults: {unmatched: encrypt}\nclasses:")
    agents = next(route for route in table.routes if route.name == "agents")
    policies = {**table.policies, agents.policy: compile_policy("p.yaml", lambda _name: unmatched)}
    house.assembly.gateway.table = dataclasses.replace(table, policies=policies)
    house.log.clear()
    assert ask(house).status == 200
    assert [line for line in house.log if '"unclassified"' in line] == []
    assert ask(house, body=b"text=a&brandnew=secret").status == 200
    (line,) = [json.loads(line) for line in house.log if '"unclassified"' in line]
    assert (line["level"], line["route"], line["count"]) == ("warning", "agents", 1)
    assert not [line for line in house.log if "brandnew" in line or "secret" in line]
    assert dict(parse_qsl(crm.calls[-1].body.decode()))["brandnew"].startswith("wg1.")
