"""Pushes that are not what they seem: every way of passing off another that the protocol leaves open."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.refusal import Refusal
from proxy.wechat import signature
from proxy.wechat.account import Account
from proxy.wechat.envelope import seal_envelope
from proxy.wechat.push import field, message_type, read_body
from tests.wechat.pushes import (
    COMPATIBLE,
    FOREIGN,
    KEY,
    MESSAGE,
    NOW,
    PLAIN,
    PREVIOUS,
    SAFE,
    plain_query,
    pushed,
    query_of,
    receive,
    refused,
)

# Proofs


def test_an_encrypted_push_in_both_forms() -> None:
    query, body = pushed()
    encrypt = field(read_body(body), "Encrypt")
    as_json = json.dumps({"ToUserName": "gh_1", "Encrypt": encrypt}).encode()
    spaced = body.replace(b"<![CDATA[", b"\r\n <![CDATA[\t").replace(b"]]>", b" ]]>\n")
    for account in (SAFE, COMPATIBLE):
        for form in (body, as_json, spaced, b"\r\n " + body):
            assert receive(query, form, account).body == MESSAGE


def test_the_plain_signature_need_not_be_there_in_safe_mode() -> None:
    """Protocol 1.3: seen missing and empty."""
    query, body = pushed()
    parts = [part for part in query.split("&") if not part.startswith("signature=")]
    for form in ("&".join(parts), "&".join([*parts, "signature="]), "&".join([*parts, "signature=" + "0" * 40])):
        assert receive(form, body).body == MESSAGE


@pytest.mark.parametrize("account", [SAFE, COMPATIBLE])
@pytest.mark.parametrize("query", [plain_query(), plain_query(encrypt_type="raw"), plain_query(encrypt_type="aes")])
def test_a_plain_triple_never_proves_a_push_to_an_encrypted_account(account: Account, query: str) -> None:
    for body in (MESSAGE, pushed()[1]):
        assert refused(query, body, account) == "mode_downgraded"


@pytest.mark.parametrize("kind", ["AES", "Aes", "", "raw ", "none", "aes,raw", "rsa"])
@pytest.mark.parametrize("account", [SAFE, COMPATIBLE, PLAIN])
def test_an_unknown_encrypt_type_is_refused(account: Account, kind: str) -> None:
    query, body = pushed()
    assert (
        refused(query.replace("encrypt_type=aes", query_of(encrypt_type=kind)), body, account) == "signature_malformed"
    )


def test_a_downgrade_of_the_type_alone_is_refused() -> None:
    query, body = pushed()
    for form in (query.replace("encrypt_type=aes", "encrypt_type=raw"), query.replace("&encrypt_type=aes", "")):
        assert refused(form, body) == "mode_downgraded"


def test_a_plain_account_takes_no_encrypted_push() -> None:
    query, body = pushed()
    assert refused(query, body, PLAIN) == "signature_malformed"
    assert refused(query.replace("&encrypt_type=aes", ""), MESSAGE, PLAIN) == "signature_malformed"
    assert refused(plain_query(encrypt_type="aes"), MESSAGE, PLAIN) == "signature_malformed"
    assert receive(plain_query(encrypt_type="raw"), MESSAGE, PLAIN).body == MESSAGE


@pytest.mark.parametrize("name", ["timestamp", "nonce", "msg_signature", "encrypt_type", "openid", "signature"])
def test_a_parameter_given_twice_is_refused(name: str) -> None:
    query, body = pushed()
    value = dict(part.split("=") for part in query.split("&"))[name]
    escaped = f"%{ord(name[0]):02x}{name[1:]}"
    for more in (f"{name}={value}", f"{name}=", name, f"{escaped}={value}"):
        assert refused(f"{query}&{more}", body) == "signature_malformed"
        assert refused(f"{more}&{query}", body) == "signature_malformed"
    assert refused(plain_query() + "&timestamp=1", MESSAGE, PLAIN) == "signature_malformed"


@pytest.mark.parametrize("name", ["timestamp", "nonce"])
def test_a_missing_parameter_is_refused(name: str) -> None:
    query, body = pushed()
    for form in (query.replace(f"{name}=", f"{name.upper()}="), query.replace(f"{name}=", f"x{name}=")):
        assert refused(form, body) == "signature_malformed"
    assert refused("", MESSAGE, PLAIN) == "signature_malformed"
    assert refused("encrypt_type=aes&msg_signature=" + "0" * 40, body) == "signature_malformed"


@pytest.mark.parametrize("query", ["%", "a=%zz", "timestamp=1&&nonce=2", "é=1", "a=b#c", "timestamp=1&nonce"])
def test_a_broken_query_proves_nothing(query: str) -> None:
    assert refused(query, MESSAGE, PLAIN) == "signature_malformed"


def test_a_signature_of_another_form_or_token_is_refused() -> None:
    query, body = pushed()
    right = dict(part.split("=") for part in query.split("&"))["msg_signature"]
    for wrong in (right.upper(), right[:-1], "", right + "0", right + "%0A"):
        assert refused(query.replace(f"msg_signature={right}", f"msg_signature={wrong}"), body) == "signature_malformed"
    assert refused(query, body, replace(SAFE, token="BBBBB")) == "signature_wrong"
    plain = signature.sign("AAAAA", str(NOW), "415670741")
    assert refused(query.replace(f"msg_signature={right}", f"msg_signature={plain}"), body) == "signature_wrong"


def test_timestamp_and_nonce_exchanged_are_stale() -> None:
    """The hash is the same and both forms fit; only the clock tells."""
    query = query_of(signature=signature.sign("AAAAA", str(NOW), "2133759430"), timestamp="2133759430", nonce=str(NOW))
    assert refused(query, MESSAGE, PLAIN) == "timestamp_stale"


def test_characters_moved_between_nonce_and_encrypt_leave_no_envelope() -> None:
    """The hash has no separators: a nonce may take over the head of Encrypt. The rest is no run of whole blocks."""
    seen = 0
    for seed in range(200):
        encrypt = seal_envelope(KEY, MESSAGE, SAFE.app_id, seed.to_bytes(16, "big"))
        signed = signature.sign("AAAAA", str(NOW), "B", encrypt)
        for shift in range(1, 32):
            nonce, rest = "B" + encrypt[:shift], encrypt[shift:]
            if not nonce.isalnum() or signature.sign("AAAAA", str(NOW), nonce, rest) != signed:
                continue
            seen += 1
            query = query_of(encrypt_type="aes", msg_signature=signed, timestamp=str(NOW), nonce=nonce)
            body = json.dumps({"Encrypt": rest}).encode()
            assert refused(query, body) == "envelope_broken"
    assert seen > 100, "the case this is about has to occur"


@settings(deadline=None)
@given(place=st.integers(min_value=0), value=st.integers(0, 255))
def test_any_changed_byte_of_an_envelope_is_refused(place: int, value: int) -> None:
    query, body = pushed()
    start = body.index(b"CDATA[") + 6
    place = start + place % (body.index(b"]]>") - start)
    changed = bytearray(body)
    changed[place] = value
    if changed == body or (value in b" \t\r\n" and place in (start, body.index(b"]]>") - 1)):
        return
    with pytest.raises(Refusal):
        receive(query, bytes(changed))


@settings(deadline=None)
@given(
    name=st.sampled_from(["timestamp", "nonce", "msg_signature"]),
    place=st.integers(0, 39),
    value=st.characters(exclude_categories=["Cs"]),
)
def test_any_changed_character_of_the_proof_is_refused(name: str, place: int, value: str) -> None:
    query, body = pushed()
    values = dict(part.split("=") for part in query.split("&"))
    text = values[name]
    place %= len(text)
    values[name] = text[:place] + value + text[place + 1 :]
    if values[name] != text:
        assert refused(query_of(**values), body) in ("signature_malformed", "signature_wrong")


# Envelopes


def test_the_previous_key_opens_and_is_the_one_to_reply_with() -> None:
    assert receive(*pushed()).key is KEY
    assert receive(*pushed(key=PREVIOUS)).key is PREVIOUS
    assert refused(*pushed(key=PREVIOUS), replace(SAFE, keys=(KEY,))) == "envelope_broken"


def test_what_no_key_opens_is_refused_alike() -> None:
    assert refused(*pushed(key=FOREIGN)) == "envelope_broken"
    assert refused(*pushed(app_id="wx0000000000000000")) == "envelope_broken"
    assert refused(*pushed(app_id=SAFE.app_id.upper())) == "envelope_broken"
    assert refused(*pushed(), replace(SAFE, keys=())) == "envelope_broken"


@pytest.mark.parametrize(
    "message", [b"<xml>", b"<xml/><!-- x -->", b"{", b'{"a":1,"a":2}', b"", b"\xff", b"<!DOCTYPE x><x/>"]
)
def test_a_broken_message_in_a_good_envelope_is_refused(message: bytes) -> None:
    assert refused(*pushed(message)) in ("document_malformed", "document_type")


def test_the_form_of_the_message_is_its_own() -> None:
    opened = receive(*pushed(b'{"MsgType":"text"}'))
    assert (opened.document.form, message_type(opened.document)) == ("json", "text")


@pytest.mark.parametrize(
    "body",
    [
        "<xml><ToUserName>gh_1</ToUserName></xml>",
        "<xml><encrypt>ENC</encrypt></xml>",
        "<XML><Encrypt>ENC</Encrypt></XML>",
        "<Encrypt>ENC</Encrypt>",
        "<xml><a><Encrypt>ENC</Encrypt></a></xml>",
        "<xml><Encrypt><a>ENC</a></Encrypt></xml>",
        "<xml><Encrypt>ENC</Encrypt><Encrypt>ENC</Encrypt></xml>",
        "<xml><Encrypt>EN<!-- -->C</Encrypt></xml>",
        "<xml><Encrypt x='1'>ENC</Encrypt></xml>",
        "<!DOCTYPE xml [<!ENTITY e 'ENC'>]><xml><Encrypt>&e;</Encrypt></xml>",
        '{"Encrypt":"ENC","Encrypt":"ENC"}',
        '{"Encrypt":"ENC","\\u0045ncrypt":"ENC"}',
        '{"Encrypt":["ENC"]}',
        '{"Encrypt":{"a":"ENC"}}',
        '{"Encrypt":null}',
        '{"Encrypt":1234}',
        '{"Encrypt":{}}',
        '{"xml":{"Encrypt":"ENC"}}',
        '[{"Encrypt":"ENC"}]',
        '\ufeff{"Encrypt":"ENC"}',
        "Encrypt=ENC",
        '"ENC"',
        "ENC",
        "",
    ],
)
def test_a_body_with_another_envelope_than_one_at_its_place_is_refused(body: str) -> None:
    query, good = pushed()
    encrypt = field(read_body(good), "Encrypt") or ""
    code = refused(query, body.replace("ENC", encrypt).encode())
    assert code in ("signature_malformed", "signature_wrong", "document_malformed", "document_type")
