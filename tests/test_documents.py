"""What documents name is there: tests behind promises, chapters behind comments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.policy.compile import compile_policy

ROOT = Path(__file__).parents[1]
SECURITY = (ROOT / "SECURITY.md").read_text()
PROMISES = [
    line for line in SECURITY.split("## What is promised")[1].split("\n## ")[0].splitlines() if line.startswith("| ")
][2:]


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row[2:40])
def test_every_promise_names_tests_that_are_there(row: str) -> None:
    named = re.findall(r"`(tests/[a-z_/0-9]+\.py)?(?:::(\w+))?`", row)
    assert named
    text = ""
    for file, test in named:
        text = (ROOT / file).read_text() if file else text
        assert text
        assert not test or re.search(rf"^(async )?def {test}\b", text, re.M), test


def test_every_chapter_that_comments_cite_is_there() -> None:
    chapters = set(re.findall(r"^##+ ([0-9]+(?:\.[0-9]+)?) ", (ROOT / "docs" / "wechat.md").read_text(), re.M))
    cited: dict[str, str] = {}
    for path in (ROOT / "proxy").rglob("*.py"):
        for group in re.findall(r"\bprotocol(?: reference)? ([0-9][0-9., to]*)", path.read_text()):
            cited |= dict.fromkeys(re.findall(r"[0-9]+(?:\.[0-9]+)?", group), path.name)
    assert len(cited) > 5
    assert cited.keys() - chapters == set()


@pytest.mark.parametrize("page", ["SECURITY.md", "README.md", "ARCHITECTURE.md", "docs/errors.md", "docs/wechat.md"])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", file.read_text()):
        assert (file.parent / target).exists(), target


WHOLE = re.findall(r"^```yaml\n(version: 1\n.*?)^```$", (ROOT / "docs" / "policy.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("text", WHOLE, ids=range(len(WHOLE)))
def test_the_policies_on_the_language_page_are_policies(text: str) -> None:
    def load(name: str) -> bytes:
        return text.encode() if name == "p.yaml" else (ROOT / "policies" / name).read_bytes()

    assert compile_policy("p.yaml", load).calls


def test_there_are_policies_on_the_language_page() -> None:
    assert len(WHOLE) > 1
