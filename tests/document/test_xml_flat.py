"""The fast reader: whatever it accepts, the strict reader accepts and understands alike, leaf for leaf."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.document import xml_body
from proxy.document.tree import MAX_LEAVES, decode
from proxy.document.xml_body import cdata
from proxy.document.xml_flat import read_flat
from proxy.refusal import Refusal

PUSH = (
    "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\n<Content><![CDATA[你好 🙂<&]]></Content>\n<MsgId>1</MsgId></xml>"
)
BLANKS = st.text(" \t\n", max_size=2)
NAMES = st.sampled_from(["a", "B_1", "x-y.z", "xml", "_"])
TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("<>&]\r\n\t \x01\x7f\x85")), max_size=6
)
PIECES = [
    "<",
    ">",
    "/",
    "&",
    "]]>",
    "<![CDATA[",
    "]]",
    "<a>",
    "</a>",
    "<a/>",
    "<!--x-->",
    "\r",
    "\x0b",
    "\ufffe",
    "\x85",
    " ",
    "é",
]


@st.composite
def bodies(draw: st.DrawFn) -> str:
    name, parts = draw(NAMES), []
    for _ in range(draw(st.integers(0, 4))):
        child, text = draw(NAMES), draw(TEXTS)
        content = draw(st.sampled_from([text, cdata(text), f"<![CDATA[{text}]]>", f"<![CDATA[{text}]]>{text}"]))
        parts.append(f"<{child}>{content}</{child}>{draw(BLANKS)}")
    return f"{draw(BLANKS)}<{name}>{draw(BLANKS)}{''.join(parts)}</{name}>{draw(BLANKS)}"


def agrees(text: str) -> bool:
    """Whether the fast reader takes `text`; if so, the strict one must say the same."""
    body = text.encode()
    try:
        decode(body)
    except Refusal:
        return False
    leaves = read_flat(text)
    if leaves is not None:
        assert leaves == xml_body._strict(text, body).leaves
    return leaves is not None


@settings(deadline=None, max_examples=400)
@given(text=bodies())
def test_agrees_with_the_strict_reader(text: str) -> None:
    agrees(text)


@settings(deadline=None, max_examples=400)
@given(text=st.one_of(bodies(), st.just(PUSH)), data=st.data())
def test_agrees_after_any_damage(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        piece = data.draw(st.one_of(st.sampled_from(PIECES), st.characters(exclude_categories=["Cs"])))
        text = text[:start] + piece + text[start + data.draw(st.integers(0, 2)) :]
    agrees(text)


def test_takes_what_a_push_is() -> None:
    assert agrees(PUSH)
    assert agrees(f"\n{PUSH}\n")
    assert agrees("<x><a></a></x>")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<x></x>",
        "<x>1</x>",
        "<x><a/></x>",
        "<x><a><b>1</b></a></x>",
        "<x><a>&lt;</a></x>",
        "<x><a>1\r</a></x>",
        "<x><a><![CDATA[1\r]]></a></x>",
        "<x><a>]]></a></x>",
        "<x><a><![CDATA[1]]>2</a></x>",
        "<x><a><![CDATA[1]]><![CDATA[2]]></a></x>",
        "<x><a>1</a></x><x/>",
        "<x><a>1</a></x>x",
        "<x><a>1</a>",
        "<x><a>1</A></x>",
        "<x><a b=''>1</a></x>",
        "<x:a><a>1</a></x:a>",
        "<x><a>\x01</a></x>",
        "<x><a>\uffff</a></x>",
        "<x><a><![CDATA[\uffff]]></a></x>",
        "<x><a><![CDATA[\x01]]></a></x>",
        "<?xml version='1.0'?><x><a>1</a></x>",
        "<!DOCTYPE x><x><a>1</a></x>",
        f"<{'x' * 65}><a>1</a></{'x' * 65}>",
        "<x>" + "<a></a>" * (MAX_LEAVES + 1) + "</x>",
    ],
)
def test_leaves_the_rest_to_the_strict_reader(text: str) -> None:
    assert read_flat(text) is None


@pytest.mark.parametrize(
    "part", ["<a>", "<a></a", "<a><![CDATA[", "<a><![CDATA[x]]>", "]]></a", "<![CDATA[]]></b>", " ", "a", "<"]
)
def test_long_bodies_take_no_time_to_leave(part: str) -> None:
    for start in ("<x>", "<x><a><![CDATA[", "<x><a>"):
        began = time.perf_counter()
        assert read_flat(start + part * 50_000) is None
        assert time.perf_counter() - began < 5
