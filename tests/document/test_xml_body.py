"""The XML reader: no place to hide or to attack in, at one with the standard library; writes what was decided."""

import re
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.document.tree import DROP, MAX_DEPTH, MAX_LEAVES, Change, Path, Value, render
from proxy.document.xml_body import cdata, read_xml
from proxy.refusal import Refusal

BLANKS = " \t\r\n"
# Everything XML 1.0 can carry (section 2.2).
characters = st.characters(
    exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff", include_characters=BLANKS
)
texts = st.text(st.one_of(characters, st.sampled_from("<>&]\"'\r\n界🙂")), max_size=10)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,7}", fullmatch=True).filter(lambda name: name.isascii())


@st.composite
def elements(draw: st.DrawFn, depth: int = 2) -> str:
    """The source of one element, in all the ways to write one."""
    name, blank = draw(names), draw(st.sampled_from(["", " ", "\r\n"]))
    if depth and draw(st.booleans()):
        children = draw(st.lists(elements(depth=depth - 1), min_size=1, max_size=3))
        gaps = draw(st.sampled_from(["", "\n", " \t\r\n"]))
        return f"<{name}{blank}>{gaps}{gaps.join(children)}{gaps}</{name}{blank}>"
    text = draw(texts)
    content = draw(
        st.sampled_from(
            [
                escape(text),
                escape(text, {"\r": "&#13;", '"': "&quot;", "'": "&apos;"}),
                cdata(text),
                cdata(text[:3]) + escape(text[3:]) + "<![CDATA[]]>",
                "".join(f"&#x{ord(character):x};" for character in text),
            ]
        )
    )
    return draw(st.sampled_from([f"<{name}{blank}>{content}</{name}{blank}>", f"<{name}{blank}/>"]))


roots = st.tuples(
    st.sampled_from(["", '<?xml version="1.0"?>', '<?xml version="1.0" encoding="UTF-8"?>\n', "\n"]),
    elements(),
    st.sampled_from(["", "\r\n "]),
).map(lambda parts: "".join(parts).encode())


def leaves(body: bytes) -> list[tuple[Path, str]]:
    return [(leaf.path, leaf.text) for leaf in read_xml(body).leaves]


def flat(element: ElementTree.Element, path: Path = ()) -> list[tuple[Path, str]]:
    here = (*path, element.tag)
    if len(element):
        return [leaf for child in element for leaf in flat(child, here)]
    return [(here, element.text or "")]


def refused(body: bytes) -> str:
    with pytest.raises(Refusal) as raised:
        read_xml(body)
    return raised.value.code


@settings(deadline=None)
@given(body=roots)
def test_reads_what_the_standard_library_reads(body: bytes) -> None:
    assert leaves(body) == flat(ElementTree.fromstring(body))
    assert render(read_xml(body), {}) == body


PIECES = [
    b"<",
    b">",
    b"/",
    b"&",
    b"]]>",
    b"<![CDATA[",
    b"<!--x-->",
    b"<?x?>",
    b"&#0;",
    b"&lt;",
    b"<a>",
    b"</a>",
    b"<a/>",
]


@settings(deadline=None, max_examples=150)
@given(body=roots, data=st.data())
def test_after_any_damage_it_refuses_or_agrees(body: bytes, data: st.DataObject) -> None:
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged)))
        piece = data.draw(st.one_of(st.binary(max_size=2), st.sampled_from(PIECES)))
        damaged[start : start + data.draw(st.integers(0, 2))] = piece
    try:
        read = leaves(bytes(damaged))
    except Refusal:
        return
    assert read == flat(ElementTree.fromstring(bytes(damaged)))
    assert render(read_xml(bytes(damaged)), {}) == damaged


@settings(deadline=None)
@given(body=st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(lambda inner: b"<xml>" + inner + b"</xml>")))
def test_arbitrary_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        assert render(read_xml(body), {}) == body
    except Refusal as refusal:
        assert refusal.code in ("document_malformed", "document_too_large")


@settings(deadline=None)
@given(body=roots, data=st.data())
def test_every_leaf_can_be_replaced(body: bytes, data: st.DataObject) -> None:
    document = read_xml(body)
    markers = [f"{index}" + data.draw(texts) for index in range(len(document.leaves))]
    written = render(document, {index: Value(marker) for index, marker in enumerate(markers)})
    assert leaves(written) == [(leaf.path, marker) for leaf, marker in zip(document.leaves, markers, strict=True)]


def _model(element: ElementTree.Element, decisions: Any) -> Any:
    """Name and children or text, as decided: "drop", "keep" or "new", leaf by leaf. Blanks alone count as nothing."""
    if len(element):
        children = [_model(child, decisions) for child in element]
        return element.tag, [child for child in children if child is not None] or ""
    decision = next(decisions, "keep")
    if decision == "drop":
        return None
    text = "new" if decision == "new" else element.text or ""
    return element.tag, text if text.strip(BLANKS) else ""


@settings(deadline=None, max_examples=100)
@given(body=roots.filter(lambda body: len(ElementTree.fromstring(body)) > 0), data=st.data())
def test_any_subset_can_be_dropped_and_replaced(body: bytes, data: st.DataObject) -> None:
    document = read_xml(body)
    size = len(document.leaves)
    decisions = data.draw(st.lists(st.sampled_from(["keep", "drop", "new"]), min_size=size, max_size=size))
    changes: Change = {
        index: DROP if decision == "drop" else Value("new")
        for index, decision in enumerate(decisions)
        if decision != "keep"
    }
    written = render(document, changes)
    read_xml(written)  # the strict reader takes it too
    expected = _model(ElementTree.fromstring(body), iter(decisions))
    assert _model(ElementTree.fromstring(written), iter(())) == expected


@settings(deadline=None)
@given(body=roots)
def test_places_are_where_the_elements_stand(body: bytes) -> None:
    document = read_xml(body)
    for leaf in document.leaves:
        whole = document.source[slice(*leaf.whole)]
        assert flat(ElementTree.fromstring(whole)) == [(leaf.path[-1:], leaf.text)]
        assert leaf.whole[0] <= leaf.start <= leaf.end <= leaf.whole[1]


PUSH = "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\n<Content><![CDATA[你好 🙂]]></Content>\n<MsgId>1</MsgId></xml>"


def test_a_push() -> None:
    document = read_xml(PUSH.encode())
    assert [(leaf.path[1], leaf.text) for leaf in document.leaves] == [
        ("ToUserName", "gh_1"),
        ("Content", "你好 🙂"),
        ("MsgId", "1"),
    ]
    written = render(document, {1: Value("wg1.AbC_-"), 2: Value("2"), 0: DROP})
    assert written == b"<xml>\n<Content><![CDATA[wg1.AbC_-]]></Content>\n<MsgId>2</MsgId></xml>"


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("<a/>", "x<y", "<a>x&lt;y</a>"),
        ("<a />", "x", "<a>x</a>"),
        ("<a></a>", "x&y", "<a>x&amp;y</a>"),
        ("<a>&lt;</a>", "]]>", "<a>]]&gt;</a>"),
        ("<a><![CDATA[]]></a>", "x&y", "<a><![CDATA[x&y]]></a>"),
        ("<a><![CDATA[1]]></a>", "a]]>b", "<a><![CDATA[a]]]]><![CDATA[>b]]></a>"),
        ("<a>1<![CDATA[2]]>3</a>", "x", "<a><![CDATA[x]]></a>"),
        ("<a>1</a>", "a\rb", "<a>a&#13;b</a>"),
        ("<a><![CDATA[1]]></a>", "<\r\n>", "<a>&lt;&#13;\n&gt;</a>"),
    ],
)
def test_how_a_value_is_written(source: str, text: str, expected: str) -> None:
    assert render(read_xml(source.encode()), {0: Value(text)}).decode() == expected
    document = read_xml(f"<x><b>界🙂</b>{source}</x>".encode())
    assert render(document, {1: Value(text)}).decode() == f"<x><b>界🙂</b>{expected}</x>"
    assert leaves(expected.encode()) == [(("a",), text)]


@pytest.mark.parametrize("character", ["\0", "\x01", "\x08", "\x0b", "\x0c", "\x1f", "\ufffe", "\uffff"])
@pytest.mark.parametrize("source", [b"<a>1</a>", b"<a><![CDATA[1]]></a>", b"<a/>"])
def test_a_character_xml_cannot_carry_is_refused(character: str, source: bytes) -> None:
    with pytest.raises(Refusal, match="value_refused"):
        render(read_xml(source), {0: Value(f"x{character}y")})


@settings(deadline=None)
@given(text=texts.filter(lambda text: "\r" not in text))
def test_a_cdata_section_holds_any_text(text: str) -> None:
    assert ElementTree.fromstring(f"<a>{cdata(text)}</a>").text in (text, text or None)


def test_a_text_split_over_two_cdata_sections_is_one_leaf() -> None:
    body = b"<xml><Content><![CDATA[a]]]]><![CDATA[>b]]></Content></xml>"
    assert leaves(body) == [(("xml", "Content"), "a]]>b")]


def test_equal_names_are_two_leaves() -> None:
    document = read_xml(b"<xml><Encrypt>1</Encrypt><Encrypt>2</Encrypt></xml>")
    assert [leaf.text for leaf in document.leaves] == ["1", "2"]
    with pytest.raises(Refusal, match="document_malformed"):
        document.single("xml", "Encrypt")


_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "text",
        "<xml>",
        "<xml></xml",
        "<xml></XML>",
        "<xml/><xml/>",
        "<xml/>text",
        "x<xml/>",
        "<a><b></a></b>",
        "<!DOCTYPE xml><xml/>",
        '<!DOCTYPE xml SYSTEM "file:///etc/passwd"><xml/>',
        '<!DOCTYPE xml PUBLIC "x" "http://127.0.0.1/x"><xml/>',
        "<!DOCTYPE xml []><xml/>",
        '<!DOCTYPE xml [<!ENTITY e "x">]><xml>&e;</xml>',
        '<!DOCTYPE xml [<!ENTITY e SYSTEM "file:///etc/passwd">]><xml>&e;</xml>',
        '<!DOCTYPE xml [<!ENTITY % e SYSTEM "http://127.0.0.1/x"> %e;]><xml/>',
        f'<!DOCTYPE xml [<!ENTITY l0 "lol">{_LAUGHS}]><xml>&l9;</xml>',
        "<xml>&e;</xml>",
        "<xml>&nbsp;</xml>",
        "<xml>&</xml>",
        "<xml>&lt</xml>",
        "<xml><!-- x --></xml>",
        "<xml><a>1<!-- x -->2</a></xml>",
        "<!-- x --><xml/>",
        "<xml/><!-- x -->",
        "<xml><?php x?></xml>",
        '<?xml-stylesheet href="x"?><xml/>',
        "<xml/><?x?>",
        '<xml xmlns="http://x"/>',
        '<xml xmlns:a="http://x"/>',
        "<a:xml/>",
        "<xml><a:Encrypt>1</a:Encrypt></xml>",
        "<xml><:a/></xml>",
        '<xml a="1"/>',
        '<xml><a b="">1</a></xml>',
        '<xml xml:lang="en"/>',
        "<xml>text<a/></xml>",
        "<xml><a/>text</xml>",
        "<xml><a/>text<b/></xml>",
        "<xml><a/><![CDATA[text]]></xml>",
        "<xml><![CDATA[]]><a/></xml>",
        "<xml><a/><![CDATA[]]></xml>",
        "<xml><a/><![CDATA[]]><b/></xml>",
        "<xml><a/>&#32;&#160;</xml>",
        "<xml>\u00a0<a/></xml>",
        "<xml>]]></xml>",
        "<xml><![CDATA[</xml>",
        "<![CDATA[x]]>",
        "<xml>&#0;</xml>",
        "<xml>&#1;</xml>",
        "<xml>&#xD800;</xml>",
        "<xml>&#xFFFE;</xml>",
        "<xml>&#x110000;</xml>",
        "<xml>\x00</xml>",
        "<xml>\x01</xml>",
        "<xml>\ufffe</xml>",
        "<界/>",
        "<xml><é/></xml>",
        f"<{'a' * 65}/>",
        "<1/>",
        "<-/>",
        '<?xml version="1.1"?><xml/>',
        '<?xml version="1.0" encoding="gbk"?><xml/>',
        '<?xml version="1.0" encoding="utf-16"?><xml/>',
        '<?xml version="1.0" encoding="utf-7"?><xml/>',
        '<?xml version="1.0" encoding="iso-8859-1"?><xml/>',
        ' <?xml version="1.0"?><xml/>',
        '<xml><?xml version="1.0"?></xml>',
        "\ufeff<xml/>",
    ],
)
def test_what_a_push_never_has_is_malformed(body: str) -> None:
    assert refused(body.encode()) == "document_malformed"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "gbk"])
def test_only_utf_8_is_read(encoding: str) -> None:
    body = "<xml><a>你+好</a></xml>".encode(encoding)
    if encoding == "utf-7":  # ASCII bytes: well-formed, and taken for what they say in UTF-8
        assert re.search("[你好]", leaves(body)[0][1]) is None
    else:
        assert refused(body) == "document_malformed"


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe4\xbd"])
def test_broken_utf_8_is_malformed(raw: bytes) -> None:
    assert refused(b"<xml><a>" + raw + b"</a></xml>") == "document_malformed"


def test_depth_is_bounded() -> None:
    assert len(leaves(b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH)) == 1
    for deep in (MAX_DEPTH + 1, 10_000):
        assert refused(b"<a>" * deep + b"</a>" * deep) == "document_too_large"
    assert refused(b"<a>" * 100_000) == "document_too_large"


def test_the_number_of_leaves_is_bounded() -> None:
    assert len(leaves(b"<x>" + b"<a/>" * MAX_LEAVES + b"</x>")) == MAX_LEAVES
    assert refused(b"<x>" + b"<a/>" * (MAX_LEAVES + 1) + b"</x>") == "document_too_large"
