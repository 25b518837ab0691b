"""What stands before every request: names, token, size of the body, and what is measured.

ASGI middleware. Nothing of a request that is refused here reaches an endpoint.
"""

import asyncio
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestration.http.answers import refuse
from orchestration.http.metrics import DURATION, REQUESTS
from orchestration.http.settings import HOSTS
from orchestration.http.tokens import EVERYBODY, Caller, Tokens
from orchestration.production.own_pages import refusal

MAX_BYTES = 1_000_000  # of a body
BODY_SECONDS = 10.0  # in which it must have come
OPEN = {"/health", "/docs", "/openapi.json"}  # for probes and readers: nothing of the data
BEARER = {"www-authenticate": "Bearer"}


class Guard:
    """Refuses what it must, and measures everything.

    Args:
      app: what is guarded.
      names: of this server, besides addresses.
      tokens: gives the present ones; None where there are none.
      paths: of endpoints, as they are named in metrics.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: frozenset[str],
        tokens: Callable[[], Tokens | None],
        paths: frozenset[str],
    ) -> None:
        self._app, self._names, self._tokens, self._paths = app, names, tokens, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or lets the app do it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._guarded(scope, receive, noted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            REQUESTS.labels(path, status).inc()
            DURATION.labels(path).observe(time.perf_counter() - begun)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if said := refusal(headers, scope["path"], self._names, HOSTS):
            await refuse(403, said)(scope, receive, send)
            return
        caller = self._caller(headers)
        if caller is None and scope["path"] not in OPEN:
            said = "give a token that this service knows: Authorization: Bearer TOKEN"
            await refuse(401, said, BEARER)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(headers, receive)
        except TimeoutError:
            await refuse(408, "the body of the request did not come in time")(scope, receive, send)
            return
        if body is None:
            said = f"a request has {MAX_BYTES:,} bytes at most: ask in several"
            await refuse(413, said, {"connection": "close"})(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)

    def _caller(self, headers: Headers) -> Caller | None:
        tokens = self._tokens()
        return EVERYBODY if tokens is None else tokens.caller(headers.get("authorization", ""))


async def _body(headers: Headers, receive: Receive) -> bytes | None:
    """The whole body; None where it is too large."""
    told = headers.get("content-length", "")
    if told.isdigit() and int(told) > MAX_BYTES:
        return None
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":  # who asked has gone
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then what comes after it."""
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
