"""The help of a code is what docs/errors.md says."""

import tomllib
from pathlib import Path

from proxy.cli.report.problem_help import Help, problem_help
from tests.source.test_problem_codes import entries

ROOT = Path(__file__).parents[3]


def test_every_documented_code_has_its_three_sentences() -> None:
    assert problem_help().keys() == entries().keys()
    assert problem_help()["yaml-encoding"].means
    for code, said in problem_help().items():
        lines = [f"- Means: {said.means}", f"- Cause: {said.cause}", f"- Fix: {said.fix}"]
        assert entries()[code].strip().splitlines() == lines


def test_one_entry_word_for_word() -> None:
    assert problem_help()["extends-missing"] == Help(
        "a file under `extends` is not there.",
        "a misspelt name; names are looked up beside the policy, with their ending.",
        "correct the name, for example `wechat-envelope.yaml`.",
    )


def test_the_page_goes_into_the_wheel_and_the_image() -> None:
    link = ROOT / "proxy/cli/report/errors.md"
    assert link.read_bytes() == (ROOT / "docs/errors.md").read_bytes()
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["proxy"]
    assert "cli/report/errors.md" in data
    assert "\nCOPY docs/errors.md docs/\n" in (ROOT / "Dockerfile").read_text()
    assert "\n!docs/errors.md\n" in (ROOT / ".dockerignore").read_text()
