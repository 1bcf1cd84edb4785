"""What a field is, by its name and by the shape of its value."""

import pytest

from proxy.document.tree import Kind, Leaf
from proxy.policy.draft_classes import CLASSES, DATA, classify, is_data


def guess(name: str, text: str = "x", kind: Kind = Kind.STRING) -> str:
    return classify(name, Leaf((name,), text, kind, 0, 0, (0, 0))).data_class


@pytest.mark.parametrize(
    ("name", "text", "data_class"),
    [
        *((name, "x", "person.openid") for name in ("OpenId__c", "touser", "FromUserName", "FriendUserName")),
        *(("unionid", "x", "person.unionid"), ("UnionId", "o" * 28, "person.unionid")),
        *((name, "x", "person.phone") for name in ("MobilePhone", "phone_number", "Tel", "Fax")),
        *((name, "x", "person.email") for name in ("Email", "e-mail", "PersonEmail__c")),
        *((name, "x", "person.number") for name in ("id_card", "PassportNo", "bank_account", "tax_id")),
        *((name, "x", "person.name") for name in ("nickname", "LastName", "Name", "receiver_name")),
        *((name, "x", "person.address") for name in ("MailingStreet", "city", "receiver_address", "PostalCode")),
        *((name, "x", "person.position") for name in ("Latitude", "Location_X", "lng")),
        *((name, "1", "person.detail") for name in ("birthday", "gender")),
        *((name, "x", "secret") for name in ("Ticket", "access_token", "password")),
        *((name, "x", "content.media") for name in ("MediaId", "PicUrl", "headimgurl", "FileKey", "ThumbMediaId")),
        *(
            (name, "x", "content.text")
            for name in ("Content", "Description", "errmsg", "Subject", "EventKey", "Remark")
        ),
        *((name, "1", "business.date") for name in ("CreatedDate", "create_time", "timestamp")),
        *((name, "1", "business.amount") for name in ("Amount", "total_fee", "unit_price")),
        *((name, "x", "business.reference") for name in ("MsgId", "order_no", "AccountId", "CardCode", "sn")),
        ("x", "oyORnuP8q7ou2gfYjqLzSIWZf0rs", "person.openid"),
        ("x", "li@example.com", "person.email"),
        *(
            ("x", text, "person.phone")
            for text in ("13800138000", "+49 30 1234567", "0086 138 0013 8000", "010-62770000")
        ),
        *(("x", text, "person.number") for text in ("11010519491231002X", "6222021234567890123")),
        *(("x", text, "person.position") for text in ("39.9042", "-116.407394")),
        *(("x", text, "content.media") for text in ("https://example.com/a", "weixin://x")),
        *(
            ("x", text, "business.date")
            for text in ("2024-12-31", "2024-12-31T10:00:00Z", "1700000000", "1700000000000")
        ),
        *(("x", text, "business.amount") for text in ("19.90", "¥ 5.00", "-3.5")),
        *(
            ("x", text, "business.reference")
            for text in ("5003000000D8cuI", "123456", "3f2504e0-4f89-11d3-9a0c-0305e82c3301")
        ),
        *(("x", text, "content.text") for text in ("two words", "订单", "a" * 33, "<b>", "y" * 2000)),
    ],
)
def test_what_it_is(name: str, text: str, data_class: str) -> None:
    assert guess(name, text) == data_class


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("text", Kind.STRING, "a short word or number"),
        ("200", Kind.STRING, "a short word or number"),
        ("", Kind.STRING, "empty in the sample"),
        (" ", Kind.STRING, "empty in the sample"),
        ("7", Kind.NUMBER, "a number without more meaning"),
        ("true", Kind.LITERAL, "true, false or null in the sample"),
        ("", Kind.EMPTY, "an empty list or object in the sample"),
    ],
)
def test_what_looks_technical_is_of_no_class(text: str, kind: Kind, reason: str) -> None:
    found = classify("Status", Leaf(("Status",), text, kind, 0, 0, (0, 0)))
    assert (found.data_class, found.reason) == ("", reason)


def test_a_technical_guess_gives_way_to_every_other() -> None:
    technical = classify("x", Leaf(("x",), "y", Kind.STRING, 0, 0, (0, 0)))
    assert all(classify("x", Leaf(("x",), text, Kind.STRING, 0, 0, (0, 0))) < technical for text in ("a b", "1.50"))


def test_a_class_and_its_datum_are_told_in_pairs() -> None:
    assert set(CLASSES) == set(DATA)
    assert len(set(DATA.values())) == len(DATA)


@pytest.mark.parametrize(
    "name", ["Content", "Location_X", "MediaId16K", "@odata.type", "first name", "v61.0", "a-b", "x" * 64]
)
def test_a_name_is_a_name(name: str) -> None:
    assert not is_data(name)


@pytest.mark.parametrize(
    "name", ["12345", "user_86138", "a@b", "o" * 28, "5003000000D8cuI", "x" * 65, "", "é", "a:b", "1a"]
)
def test_a_value_is_no_name(name: str) -> None:
    assert is_data(name)


@pytest.mark.timeout(20)
def test_a_hostile_text_does_not_take_long() -> None:
    for text in (
        "1" * 500_000,
        "a@" * 250_000,
        "1 " * 250_000,
        "é" * 300_000,
        "0-" * 128,
        "a@a." * 64,
        "a@" + "." * 200_000 + "@",
    ):
        guess("x", text)
