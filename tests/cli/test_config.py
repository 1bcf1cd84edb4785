"""`wxgate config check`: everything wrong by line, or what it would listen on and forward to; no secret either way."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def built() -> Iterator[Installation]:
    with Installation() as it:
        yield it


@pytest.fixture
def installation(built: Installation) -> Iterator[Installation]:
    before = built.config.read_text()
    yield built
    built.config.write_text(before)


def check(installation: Installation) -> Result:
    result = CliRunner().invoke(main, ["config", "check", str(installation.config)])
    assert not any(value in result.output for value in installation.secrets.values())
    assert "Traceback" not in result.output
    return result


def test_it_says_what_it_would_listen_on_and_forward_to(installation: Installation) -> None:
    it, result = installation, check(installation)
    policy = "policies/wechat-crm.yaml"
    assert result.output.splitlines() == [
        f"listen   public: 127.0.0.1:{it.public}, TLS 1.2 or newer",
        f"listen   internal: 127.0.0.1:{it.internal}, TLS 1.2 or newer",
        "route    wechat-push: inbound, any host /wechat/shop -> "
        f"https://localhost:{it.crm_port}/webhook/wechat by {policy}",
        f"route    crm-sends: outbound, any host /cgi-bin/ -> https://localhost:{it.wechat_port} by {policy}",
        f"route    agents: agent, any host /services/data/ -> https://localhost:{it.crm_port} by {policy}",
        f"admin    http://127.0.0.1:{it.admin}",
    ]
    assert result.exit_code == 0


def test_hosts_and_the_oldest_tls_are_told(installation: Installation) -> None:
    installation.edit("    path: /cgi-bin/", "    hosts: [b.internal, a.internal]\n    path: /cgi-bin/")
    text = installation.config.read_text().replace("gateway.key}\naccounts", "gateway.key, oldest: '1.3'}\naccounts")
    installation.config.write_text(text)
    output = check(installation).output
    assert f"internal: 127.0.0.1:{installation.internal}, TLS 1.3 or newer" in output
    assert "outbound, a.internal, b.internal /cgi-bin/ ->" in output


def test_everything_wrong_is_told_by_line(installation: Installation) -> None:
    installation.edit("region: cn", "region: China")
    installation.edit("file:secrets/wechat-token", installation.secrets["wechat-token"])
    installation.edit("listener: public", "listener: pubic")
    result = check(installation)
    assert result.exit_code == 1
    problems = result.stdout.splitlines()
    file = installation.config
    assert [line.split(" ")[:2] for line in problems] == [
        [f"{file}:4:9:", "wrong-value"],
        [f"{file}:18:12:", "secret"],
        [f"{file}:24:50:", "name-unknown"],
    ]
    assert problems[2].endswith('there is no listener "pubic"; did you mean "public"?')
    assert result.stderr == "3 problems\n"


def test_one_problem_is_one(installation: Installation) -> None:
    installation.edit("region: cn", "region: China")
    assert check(installation).stderr == "1 problem\n"


def test_a_warning_is_told_and_stops_nothing(installation: Installation) -> None:
    installation.edit("mode: safe", "mode: plain")
    result = check(installation)
    assert result.exit_code == 0
    assert "warning plain-mode" in result.output.splitlines()[0]


def test_no_file_is_a_problem_and_no_trace(installation: Installation) -> None:
    result = CliRunner().invoke(main, ["config", "check", str(installation.directory / "none.yaml")])
    assert result.exit_code == 1
    assert "none.yaml:1:1: file-unreadable" in result.output


def test_help_says_the_exit_codes() -> None:
    result = CliRunner().invoke(main, ["config", "check", "--help"])
    assert "Exit codes: 0" in result.output
