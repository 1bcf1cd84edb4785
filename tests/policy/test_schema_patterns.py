"""The patterns of the schema say what the reader's own parsers say."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.compile import _path_template
from proxy.policy.schema_patterns import PATH_TEMPLATE, SELECTOR_FORMS, WILDCARD, selectors
from proxy.policy.selector import _PARSERS, GATEWAYS_OWN, Selector, parse_selector

ALL = selectors(SELECTOR_FORMS)
# Pieces that selectors are made of, and some that they are not.
PIECES = st.sampled_from(
    [
        *"/$.*[]'\"\\ ab0é名-_A?:@",
        "[*]",
        ".*",
        "['*']",
        "[0]",
        "[10]",
        "['a b']",
        '["x"]',
        ".name",
        "/xml",
        "/*",
        "..",
        "host",
    ]
)
TEXTS = st.tuples(st.sampled_from(SELECTOR_FORMS), st.lists(PIECES, max_size=8).map("".join)).map(":".join)


def read(text: str) -> Selector | None:
    try:
        return parse_selector(text)
    except ValueError:
        return None


def test_every_kind_of_selector_has_its_pattern() -> None:
    assert set(SELECTOR_FORMS) == set(_PARSERS)


@given(TEXTS)
def test_a_selector_is_one_for_both(text: str) -> None:
    found = read(text)
    assert (re.search(ALL, text) is not None) == (found is not None)
    if found:
        assert (re.search(WILDCARD, text) is not None) == found.has_wildcard


@pytest.mark.parametrize("name", sorted(GATEWAYS_OWN))
def test_a_field_of_the_gateways_own_is_none(name: str) -> None:
    assert read(f"header:{name}") is None
    assert not re.search(ALL, f"header:{name}")
    assert re.search(ALL, f"header:x-{name}")


@given(
    st.lists(st.sampled_from(["/", "a", ".", "..", "{id}", "{x1}", "{", "}", "{A}", "~", "?", "-" * 64]), max_size=8)
)
def test_a_path_is_one_for_both(pieces: list[str]) -> None:
    path = "".join(pieces)
    variables = re.findall(r"\{(\w+)\}", path)
    expected = _path_template(path) is not None or len(set(variables)) < len(variables)
    assert (re.search(PATH_TEMPLATE, path) is not None) >= (_path_template(path) is not None)
    assert (re.search(PATH_TEMPLATE, path) is not None) <= expected


@pytest.mark.parametrize(
    "text", ["json:$" + ".a" * 5000 + "!", "xml:" + "/a" * 5000 + "!", "json:$" + "[*]" * 5000 + "'"]
)
def test_no_text_takes_long(text: str) -> None:
    assert not re.search(ALL, text)
    re.search(WILDCARD, text)
