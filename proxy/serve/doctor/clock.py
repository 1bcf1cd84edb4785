"""The machine's clock against another's: WeChat's pushes are refused outside their window, receipts carry the time."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from proxy.kms.service_settings import AwsSettings, VaultSettings
from proxy.serve.doctor.finding import Finding, fine, note, now, soon
from proxy.serve.settings import Settings

_TIMEOUT = 5.0
_NOTICEABLE = 5.0  # seconds; the Date of HTTP has whole ones, and the answer took its time
_WINDOW = 300.0  # of an account, unless it says otherwise


def clock(settings: Settings, stated: str = "", here: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Compared with the Date of the key service's answers, or of `stated`, a URL."""
    source, ca = (stated, None) if stated else _service(settings)
    if not source:
        yield note("clock", "not compared: the key service has none", "give --clock https://HOST")
        return
    try:
        away = abs(here() - _date(source, ca))
    except (OSError, ValueError, http.client.HTTPException) as error:
        yield soon("clock", f"{source} told no time ({type(error).__name__})", "give another --clock https://HOST")
        return
    windows = [float(route.account.window) for route in settings.routes if route.account]
    text = f"{away:.0f} s away from {source}"
    if away > min(windows, default=_WINDOW) / 2:
        yield now("clock", text, "set it, and run NTP: pushes that are too old or from the future are refused")
    elif away > _NOTICEABLE:
        yield soon("clock", text, "run NTP")
    else:
        yield fine("clock", f"less than {_NOTICEABLE:.0f} s away from {source}")


def _service(settings: Settings) -> tuple[str, Path | None]:
    """URL and CA of a key service that answers over HTTP."""
    for service in settings.keys.all():
        match service.reach:
            case VaultSettings(url=url, ca=ca):
                return url, ca
            case AwsSettings(region=region, endpoint=endpoint, ca=ca):
                return endpoint or f"https://kms.{region}.amazonaws.com", ca
    return "", None


def _date(source: str, ca: Path | None) -> float:
    """Unix seconds in the Date header of whatever `source` answers (RFC 9110, section 6.6.1)."""
    url = urlsplit(source)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("not a URL")
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            url.hostname, url.port, timeout=_TIMEOUT, context=context
        )
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=_TIMEOUT)
    try:
        connection.request("HEAD", "/")
        return parsedate_to_datetime(connection.getresponse().headers["Date"]).timestamp()
    except (TypeError, KeyError):
        raise ValueError("no Date") from None
    finally:
        connection.close()
