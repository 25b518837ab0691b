"""Dagster's webserver, for pages of its own alone.

    python -m orchestration.production.webserver -h 127.0.0.1 -p 3000 -w workspace.yaml

It has no login, and Dagster asks neither by which name it was reached nor whose page asks. So any
page that is open in a browser beside it could start runs: by a request across sites, or by a name
of its own that it lets point here (DNS rebinding). Here a request is refused

  whose Host is a name, unless it is localhost, this machine's, that of FOOTPATH_WEBSERVER, or among
  FOOTPATH_UI_HOSTS (names with commas between them: what a proxy is reached by);
  that a page of another site sends. Links to the UI work from anywhere.
"""

import os
import re
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from dagster_webserver.cli import main
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from orchestration.production.addresses import UI_HOSTS, WEBSERVER


class OwnPages:
    """ASGI middleware that refuses requests by foreign names and of foreign pages."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 403 and a sentence."""
        is_asked = scope["type"] in ("http", "websocket")
        if is_asked and (said := refusal(Headers(scope=scope), scope["path"], self._names)):
            is_socket = scope["type"] == "websocket"
            answer = WebSocketClose(1008, said) if is_socket else PlainTextResponse(said, 403)
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def refusal(headers: Headers, path: str, names: frozenset[str]) -> str:
    """Why a request is refused; empty if it is not."""
    host = headers.get("host", "")
    if not _is_own(host, names):
        return f"'{host}' is no name of this server: add it to {UI_HOSTS} if it is"
    origin = urlsplit(headers.get("origin", f"//{host}"))
    if origin.netloc != host and origin.hostname not in names:
        return f"a page of '{origin.geturl()}' has no business here: see {UI_HOSTS}"
    is_link = headers.get("sec-fetch-mode") == "navigate" and not path.endswith("/graphql")
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_link:
        return "a page of another site has no business here"
    return ""


def own_names() -> frozenset[str]:
    """The names that this server is reached by, besides addresses."""
    given = os.environ.get(UI_HOSTS, "").split(",")
    found = {"localhost", socket.gethostname(), *(name.strip() for name in given)}
    found.add(urlsplit(os.environ.get(WEBSERVER, "")).hostname or "")
    return frozenset(name.lower() for name in found if name)


def _is_own(host: str, names: frozenset[str]) -> bool:
    name = re.sub(r":\d*$", "", host).lower()
    if name in names:
        return True
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))  # which no name was resolved to
    except ValueError:
        return False
    return True


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
