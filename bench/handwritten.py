"""The yardstick: the same job as a competent engineer writes it in an afternoon, on the usual libraries.

Verify `msg_signature`, open the safe-mode envelope, encrypt one field, forward to the CRM, answer `success`.
No replay check, no policy, no audit, no key management. Runs in `.venv-bench`:
`uvicorn bench.handwritten:create_app --factory`, configured by the environment.
"""

import base64
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import xmltodict
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from wechatpy.crypto import WeChatCrypto
from wechatpy.exceptions import InvalidAppIdException, InvalidSignatureException


def create_app() -> FastAPI:
    """Build the service from `WECHAT_*`, `CRM_*` and `FIELD_KEY` in the environment; KeyError if one is missing."""
    wechat = WeChatCrypto(
        os.environ["WECHAT_TOKEN"], os.environ["WECHAT_ENCODING_AES_KEY"], os.environ["WECHAT_APP_ID"]
    )
    field_key = AESGCM(base64.b64decode(os.environ["FIELD_KEY"]))
    crm_url = os.environ["CRM_URL"]
    crm_tls = ssl.create_default_context(cafile=os.environ["CRM_CA"])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(ssl=crm_tls, limit=100, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=4)) as session:
            app.state.crm = session
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post(os.environ["WECHAT_PATH"])
    async def push(request: Request, msg_signature: str, timestamp: str, nonce: str) -> Response:
        try:
            opened = wechat.decrypt_message(await request.body(), msg_signature, timestamp, nonce)
        except (InvalidSignatureException, InvalidAppIdException):
            return PlainTextResponse("refused", status_code=403)
        document = xmltodict.parse(opened)
        document["xml"]["Content"] = encrypt(field_key, document["xml"]["Content"])
        body = xmltodict.unparse(document).encode()
        async with request.app.state.crm.post(crm_url, data=body, headers={"Content-Type": "text/xml"}) as answer:
            await answer.read()
            if answer.status != 200:
                return PlainTextResponse("upstream failed", status_code=502)
        return PlainTextResponse("success")

    return app


def encrypt(key: AESGCM, clear: str) -> str:
    """Return the base64 text of nonce, cipher text and tag."""
    nonce = os.urandom(12)
    return base64.b64encode(nonce + key.encrypt(nonce, clear.encode(), None)).decode()
