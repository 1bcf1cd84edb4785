"""Packs at work in a whole installation: real TLS, real signatures, what the CRM holds and what each role reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.emulate.stage import Reply, Stage
from proxy.emulate.wechat import Pusher

SAMPLES = Path(__file__).parents[2] / "policies/samples"
FOLLOWER = "oFOLLOWER0000000000000000001"
OBJECTS = "/services/data/v60.0/sobjects"
CHATS = f"{OBJECTS}/WeChat_Chat__c"
CLEAR = ("王小明", "对价格敏感", "LN-20140903", "18800.5", "小明同学", "退货单", FOLLOWER)


class _Chats(Stage):
    """Agents work with chats instead of single messages."""

    def write_config(self) -> None:
        super().write_config()
        before = "path: /services/data/\n    upstream: crm\n    policy: policies/"
        text = self.config.read_text()
        assert f"{before}wechat-crm.yaml" in text
        self.config.write_text(text.replace(f"{before}wechat-crm.yaml", f"{before}chat-encryption.yaml"))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with _Chats() as built:
        yield built


def upload(stage: Stage, who: str, target: str, sample: str) -> Reply:
    body = (SAMPLES / sample).read_bytes()
    boundary = body[2 : body.index(b"\r\n")].decode()
    fields = {
        "Authorization": f"Bearer {stage.secrets[f'{who}-bearer']}",
        "Content-Type": f"multipart/form-data; boundary={boundary}",
    }
    return stage.ask(stage.internal, "POST", target, body, fields)


def test_a_chat_is_stored_as_tokens_and_read_by_role(stage: Stage) -> None:
    chat = json.loads((SAMPLES / "chat/chat-create.json").read_bytes()) | {"OpenId__c": FOLLOWER}
    created = stage.call("agent", "POST", CHATS, chat)
    assert created.status == 201, created.body
    path = f"{CHATS}/{created.json['id']}"
    assert not [word for word in CLEAR if word in json.dumps(stage.in_crm(), ensure_ascii=False)]
    read = stage.call("agent", "GET", path).json
    names = ("Title__c", "Customer_Note__c", "Loyalty_Number__c", "Budget__c")
    assert {name: read[name] for name in names} == {name: chat[name] for name in names}
    assert read["OpenId__c"].startswith("wd1.")
    seen = stage.call("analyst", "GET", path).json
    assert (seen["Title__c"], seen["Loyalty_Number__c"]) == ("王小******", "*******0903")
    assert seen["Customer_Note__c"].startswith("wg1.")
    assert seen["Budget__c"].startswith("wn1.")


def test_what_the_crm_says_no_with_reaches_the_agent_as_a_code(stage: Stage) -> None:
    answer = stage.call("agent", "GET", f"{CHATS}/a0B5g00000Kq1XAEAZ")
    assert (answer.status, answer.json) == (404, [{"errorCode": "NOT_FOUND"}])


def test_bytes_of_a_chat_s_file_do_not_leave(stage: Stage) -> None:
    before = stage.in_crm()
    answer = upload(stage, "agent", f"{OBJECTS}/Document", "chat/document-create.multipart")
    assert (answer.status, answer.code) == (422, "field_refused")
    assert stage.in_crm() == before


def test_an_upload_to_wechat_does_not_leave(stage: Stage) -> None:
    answer = upload(stage, "crm", "/cgi-bin/media/upload?access_token=x&type=image", "crm/media-upload.multipart")
    assert answer.status == 422
    assert stage.at_followers() == []


def test_json_in_a_push_arrives_with_its_parts_sealed(stage: Stage) -> None:
    text = '{"page":"order-detail","nickname":"小明同学","order":"SO-20140903"}'
    assert push(stage.pusher, stage, text).startswith('{"page":"order-detail","nickname":"wg1.')


def test_json_nobody_agreed_on_arrives_as_one_token(stage: Stage) -> None:
    assert push(stage.pusher, stage, '{"page":"order-detail","mobile":"13800138000"}').startswith("wg1.")


def push(pusher: Pusher, stage: Stage, session: str) -> str:
    """What the CRM got as SessionFrom."""
    document = pusher.message(FOLLOWER, "event", Event="user_enter_tempsession", SessionFrom=session)
    assert stage.push(pusher.deliver(document)).body == b"success"
    body = stage.in_crm()["webhook"][-1]["body"]
    assert not [word for word in CLEAR if word in body]
    return str(body.partition("<SessionFrom><![CDATA[")[2].partition("]]>")[0])
