"""Names of deliveries: the same message keeps its name, two messages never share one."""

import hashlib
from copy import replace
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.refusal import Refusal
from proxy.wechat.account import Account, Mode
from proxy.wechat.delivery import message_key, payload_key, triple_key
from proxy.wechat.push import Proof, read_body

ACCOUNT = Account("acme", "wx1", Mode.SAFE, token="t")
PROOF = Proof("1714036504", "1514711492", "f" * 40, encrypted=True)

words = st.text("ab1|", max_size=3)
proofs = st.builds(Proof, words, words, words, st.just(True))


def key(body: str, account: Account = ACCOUNT) -> bytes:
    return message_key(account, read_body(body.encode()), body.encode())


def message(sender: str = "o1", created: str = "1", message_id: str = "7", content: str = "x") -> str:
    return (
        f"<xml><FromUserName>{sender}</FromUserName><CreateTime>{created}</CreateTime>"
        f"<MsgId>{message_id}</MsgId><Content>{content}</Content></xml>"
    )


def event(sender: str = "o1", created: str = "1", kind: str = "LOCATION") -> str:
    return (
        f"<xml><FromUserName>{sender}</FromUserName><CreateTime>{created}</CreateTime>"
        f"<MsgType>event</MsgType><Event>{kind}</Event></xml>"
    )


def test_all_names_have_16_bytes() -> None:
    assert {len(name) for name in (triple_key(ACCOUNT, PROOF), payload_key(b""), key(message()), key(event()))} == {16}


def test_names_stay_what_they_are() -> None:
    """The CRM knows repeats by them, also while gateways of two versions serve."""

    def name(*items: str) -> bytes:
        return hashlib.sha256("".join(f"{len(item)}:{item}," for item in items).encode()).digest()[:16]

    payload = hashlib.sha256(event().encode()).hexdigest()
    assert triple_key(ACCOUNT, PROOF) == name("acme", PROOF.timestamp, PROOF.nonce, PROOF.signature)
    assert key(message()) == name("acme", "o1", "1", "7")
    assert key(event()) == name("acme", "o1", "1", "", payload)


def test_every_part_of_a_triple_counts() -> None:
    others = [
        triple_key(ACCOUNT, PROOF),
        triple_key(replace(ACCOUNT, name="other"), PROOF),
        triple_key(ACCOUNT, replace(PROOF, timestamp="1714036505")),
        triple_key(ACCOUNT, replace(PROOF, nonce="1514711493")),
        triple_key(ACCOUNT, replace(PROOF, signature="e" * 40)),
        # exchanged, and with a digit shifted: alike to the hash of the signature, not to this one
        triple_key(ACCOUNT, replace(PROOF, timestamp=PROOF.nonce, nonce=PROOF.timestamp)),
        triple_key(ACCOUNT, replace(PROOF, timestamp="714036504", nonce="15147114921")),
    ]
    assert len(set(others)) == len(others)


@settings(deadline=None)
@given(one=proofs, other=proofs)
def test_triples_are_joined_with_their_lengths(one: Proof, other: Proof) -> None:
    assume(one != other)
    assert triple_key(ACCOUNT, one) != triple_key(ACCOUNT, other)


def test_a_message_keeps_its_name_under_another_triple_and_in_another_spelling() -> None:
    """Messages go by MsgId: the payload does not count, so a repeat that is spelled differently is still a repeat."""
    as_json = '{"FromUserName":"o1","CreateTime":1,"MsgId":7,"Content":"x"}'
    assert key(message()) == key(message()) == key(message(content="y")) == key(as_json)


def test_an_event_goes_by_its_payload() -> None:
    assert key(event()) == key(event())
    assert key(event()) != key(event().replace("</xml>", "\n</xml>"))


def test_what_differs_is_another_message() -> None:
    """Protocol 1.7: one id for two senders, and two events of one second, have both been seen."""
    other = replace(ACCOUNT, name="other")
    names = [
        key(message()),
        key(message(), other),
        key(message(sender="o2")),
        key(message(created="2")),
        key(message(message_id="8")),
        key(message(sender="o11", created="")),
        key(message(message_id="")),
        key(event()),
        key(event(), other),
        key(event(kind="VIEW")),
        key(event(created="2")),
        key("<xml><Event>x</Event></xml>"),
    ]
    for one, another in combinations(names, 2):
        assert one != another


def test_a_64_bit_id_is_not_rounded() -> None:
    first, second = (f'{{"FromUserName":"o","CreateTime":1,"MsgId":60547685900647137{end}}}' for end in ("28", "29"))
    assert float(first[-20:-1].split(":")[-1]) == float(second[-20:-1].split(":")[-1])
    assert key(first) != key(second)


@pytest.mark.parametrize("name", ["FromUserName", "CreateTime", "MsgId"])
def test_a_repeated_field_names_nothing(name: str) -> None:
    with pytest.raises(Refusal, match="document_malformed"):
        key(message().replace("</xml>", f"<{name}>1</{name}></xml>"))
