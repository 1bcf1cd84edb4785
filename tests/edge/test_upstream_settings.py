"""Settings that would open a hole are refused."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.edge.upstream_settings import UpstreamSettings


@pytest.mark.parametrize(
    ("host", "port", "authority", "header"),
    [
        ("crm.example", 443, b"crm.example:443", b"crm.example"),
        ("crm.example", 8443, b"crm.example:8443", b"crm.example:8443"),
        ("127.0.0.1", 443, b"127.0.0.1:443", b"127.0.0.1"),
        ("::1", 443, b"[::1]:443", b"[::1]"),
        ("::1", 8443, b"[::1]:8443", b"[::1]:8443"),
    ],
)
def test_authority_and_host_header(host: str, port: int, authority: bytes, header: bytes) -> None:
    one = UpstreamSettings(name="crm", host=host, port=port)
    assert (one.authority, one.host_header) == (authority, header)


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": "http"},
        {"scheme": "HTTPS"},
        {"host": ""},
        {"host": "crm.example:443"},
        {"host": "crm.example\r\nx: y"},
        {"host": "crm.example\n"},
        {"host": "crm example"},
        {"host": "CRM.example"},
        {"host": "crm.example."},
        {"host": "*.example"},
        {"host": "crm/x"},
        {"host": "user@crm"},
        {"host": "客户.example"},
        {"host": "127.1"},
        {"host": "fe80::1%eth0"},
        {"host": "a" * 64},
        {"port": 0},
        {"port": 65536},
        {"egress_proxy": ("proxy\r\n", 3128)},
        {"egress_proxy": ("proxy", 0)},
        {"client_certificate": "a.pem"},
        {"client_key": "a.key"},
        {"connect_timeout": 0},
        {"max_idle": -1},
        {"max_age": float("nan")},
        {"max_connections": 0},
        {"max_response_bytes": 0},
        {"warm": -1},
        {"warm": 33},
    ],
)
def test_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\Aupstream crm: [a-z_]+"):
        UpstreamSettings(**({"name": "crm", "host": "crm.example"} | changes))


def test_the_upstream_is_shown_the_token_of_the_gateway_and_no_other() -> None:
    one = UpstreamSettings("crm", "crm.example.com", bearer=b"secret-of-the-gateway")
    assert one.own_fields.endswith(b"\r\nauthorization: Bearer secret-of-the-gateway\r\n")
    assert b"authorization" not in UpstreamSettings("crm", "crm.example.com").own_fields
    assert "secret" not in repr(one)


@pytest.mark.parametrize("bearer", [b"two words", b"line\r\nbreak", b"\xff", b"=="])
def test_a_token_that_could_bend_the_head_is_refused(bearer: bytes) -> None:
    with pytest.raises(ValueError, match="bearer"):
        UpstreamSettings("crm", "crm.example.com", bearer=bearer)
