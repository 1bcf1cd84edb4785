"""Templates of paths: what a variable may hold, and which templates fit one path."""

import pytest

from proxy.policy.path_template import PathTemplate, is_segment


@pytest.mark.parametrize("text", ["a", "v59.0", "500-x_Y~", "...", "a" * 512])
def test_a_path_segment_is_made_of_unreserved_characters(text: str) -> None:
    assert is_segment(text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "a%2f", "a b", "a?", "a;b", "名", "a\n", "a" * 513, "a\\b", "@"]
)
def test_what_could_change_a_path_is_no_segment(text: str) -> None:
    assert not is_segment(text)


@pytest.mark.parametrize(
    ("one", "two", "overlap"),
    [
        (("a", None), ("a", "b"), True),
        (("a", None), (None, "b"), True),
        (("a",), ("a",), True),
        (("a", "b"), ("a", "c"), False),
        (("a", None), ("a",), False),
        (("a", None), ("b", None), False),
    ],
)
def test_templates_overlap_if_one_path_fits_both(
    one: tuple[str | None, ...], two: tuple[str | None, ...], overlap: bool
) -> None:
    assert PathTemplate(one).overlaps(PathTemplate(two)) is overlap
    assert PathTemplate(two).overlaps(PathTemplate(one)) is overlap
