"""Dagster's webserver, for pages of its own alone.

    python -m orchestration.production.webserver -h 127.0.0.1 -p 3000 -w workspace.yaml

It has no login, and Dagster asks neither by which name it was reached nor whose page asks: here
both are asked first (own_pages.py). Further names of it are that of FOOTPATH_WEBSERVER, and those
of FOOTPATH_UI_HOSTS (names with commas between them: what a proxy is reached by).
"""

import os
from urllib.parse import urlsplit

from dagster_webserver.cli import main
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from orchestration.production.addresses import UI_HOSTS, WEBSERVER
from orchestration.production.own_pages import names_of, refusal


class OwnPages:
    """ASGI middleware that refuses requests by foreign names and of foreign pages."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 403 and a sentence."""
        is_asked = scope["type"] in ("http", "websocket")
        headers, names = Headers(scope=scope) if is_asked else Headers(), self._names
        if is_asked and (said := refusal(headers, scope["path"], names, UI_HOSTS)):
            is_socket = scope["type"] == "websocket"
            answer = WebSocketClose(1008, said) if is_socket else PlainTextResponse(said, 403)
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def own_names() -> frozenset[str]:
    """The names that this server is reached by, besides addresses."""
    return names_of(UI_HOSTS, urlsplit(os.environ.get(WEBSERVER, "")).hostname or "")


class OwnWebserver(DagsterWebserver):
    """Dagster's webserver behind `OwnPages`."""

    def build_middleware(self) -> list[Middleware]:
        """Ours before Dagster's."""
        return [Middleware(OwnPages, names=own_names()), *super().build_middleware()]


if __name__ == "__main__":
    from dagster_webserver import app

    # There is no option for it.
    app.DagsterWebserver = OwnWebserver  # pyright: ignore[reportPrivateImportUsage]
    main()
