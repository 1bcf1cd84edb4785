"""Talking to AWS KMS: bounded, verified, without the environment's say where settings speak, failures as KeysError."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import RLock
from typing import Any, NoReturn

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)

from proxy.kms.service import KeysError, KeyServiceDownError
from proxy.kms.service_settings import AwsSettings

# docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html, and the errors of each action beside it.
_DENIED = frozenset(
    {
        *("AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId"),
        *("InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken"),
        *("ExpiredTokenException", "NotAuthorized", "OptInRequired"),
    }
)
_LATER = frozenset(
    {
        *("ThrottlingException", "RequestLimitExceeded", "ServiceUnavailable", "InternalFailure"),
        *("KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException", "RequestExpired"),
    }
)


class RefusedError(KeysError):
    """The service understood and said no. Its text is the name of the error."""


class AwsSession:
    """One client for each process: a connection that a fork shares would carry two streams of TLS at once."""

    def __init__(self, settings: AwsSettings) -> None:
        """Reaches nothing yet."""
        self._settings = settings
        self._lock = RLock()
        self._process = 0
        self._client: Any = None

    def __repr__(self) -> str:
        return f"AWS KMS {self._settings.region}"

    def ask[T](self, question: Callable[[Any], T]) -> T:
        """The service's answer to `question`, which takes it apart.

        Raises RefusedError, KeysError for what is denied, KeyServiceDownError for no answer.
        """
        try:
            with self._lock:
                if self._process != os.getpid():
                    self._client, self._process = self._connected(), os.getpid()
            return question(self._client)
        except (ClientError, BotoCoreError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            self._explain(error)

    def _connected(self) -> Any:
        settings = self._settings
        return botocore.session.Session().create_client(
            "kms",
            region_name=settings.region,
            endpoint_url=settings.endpoint or f"https://kms.{settings.region}.amazonaws.com",
            verify=str(settings.ca) if settings.ca else True,
            aws_access_key_id=settings.access_key_id.decode() or None,
            aws_secret_access_key=settings.secret_access_key.decode() or None,
            aws_session_token=settings.session_token.decode() or None,
            config=Config(
                connect_timeout=settings.timeout,
                read_timeout=settings.timeout,
                retries={"total_max_attempts": 1},  # the keyring backs off, and knows who else waits
                proxies={},  # none from the environment
                ignore_configured_endpoint_urls=True,
            ),
        )

    def _explain(self, error: Exception) -> NoReturn:
        match error:
            case ClientError():
                code = str(error.response.get("Error", {}).get("Code", ""))
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                if code in _LATER or status >= 500:
                    raise KeyServiceDownError(f"{self}: answers, but cannot serve ({code})") from None
                if code in _DENIED:
                    raise KeysError(
                        f"{self}: denied ({code}); check the credentials and that the policy allows what docs/keys.md "
                        "lists"
                    ) from None
                raise RefusedError(code) from None
            case NoCredentialsError() | PartialCredentialsError():
                raise KeysError(f"{self}: no credentials; name them, or give the machine a role") from None
            case CredentialRetrievalError():
                raise KeyServiceDownError(f"{self}: the machine's role gives no credentials now") from None
            case BotoCoreError() | OSError():
                raise KeyServiceDownError(f"{self}: cannot be reached ({type(error).__name__})") from None
            case _:
                raise KeyServiceDownError(f"{self}: answered what was not asked for") from None
