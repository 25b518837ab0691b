"""The webserver answers its own pages, by its own names, and nobody else's."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from orchestration.production.addresses import UI_HOSTS
from orchestration.production.own_pages import refusal
from orchestration.production.webserver import OwnPages, OwnWebserver, own_names

CROSS = {"sec-fetch-site": "cross-site"}
LINK = CROSS | {"sec-fetch-mode": "navigate"}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> frozenset[str]:
    """The names of a server behind a proxy."""
    monkeypatch.setenv("FOOTPATH_UI_HOSTS", "footpath.example.org, UI.example.org")
    monkeypatch.setenv("FOOTPATH_WEBSERVER", "http://webserver:3000")
    return own_names()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {"host": "127.0.0.1:3000"}),
        ("/", {"host": "[::1]:3000"}),
        ("/", {"host": "10.0.0.7"}),  # a probe
        ("/", {"host": "LOCALHOST:3000"}),
        ("/server_info", {"host": "webserver:3000"}),
        ("/graphql", {"host": "localhost:3000", "origin": "http://localhost:3000"}),
        ("/graphql", {"host": "127.0.0.1:3000", "origin": "https://footpath.example.org"}),
        ("/graphql", {"host": "ui.example.org", "sec-fetch-site": "same-origin"}),
        ("/runs/1", {"host": "localhost", **LINK}),
    ],
)
def test_own_names_and_own_pages_are_answered(names, path, headers):
    assert refusal(Headers(headers), path, names, UI_HOSTS) == ""


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/", {"host": ""}),
        ("/", {"host": "evil.example:3000"}),
        ("/", {"host": "127.0.0.1.evil.example"}),
        ("/", {"host": "localhost.evil.example:3000"}),
        ("/graphql", {"host": "evil.example", "origin": "http://evil.example"}),
        ("/graphql", {"host": "127.0.0.1:3000", "origin": "http://evil.example"}),
        ("/graphql", {"host": "127.0.0.1:3000", "origin": "http://127.0.0.1:8080"}),
        ("/graphql", {"host": "127.0.0.1:3000", "origin": "null"}),
        ("/graphql", {"host": "localhost", **CROSS}),
        ("/graphql", {"host": "localhost", **LINK}),
    ],
)
def test_foreign_names_and_foreign_pages_are_refused(names, path, headers):
    assert refusal(Headers(headers), path, names, UI_HOSTS)


def test_a_refused_request_reaches_nothing():
    reached = []

    async def endpoint(request) -> PlainTextResponse:
        reached.append(request.url.hostname)
        return PlainTextResponse("hello")

    app = OwnPages(Starlette(routes=[Route("/", endpoint)]), frozenset({"localhost"}))

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = [await client.get("/", headers={"host": h}) for h in ("evil", "localhost")]
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [403, 200]
    assert reached == ["localhost"]


def test_dagsters_webserver_is_behind_it():
    first, *others = OwnWebserver.build_middleware(OwnWebserver.__new__(OwnWebserver))
    assert first.cls is OwnPages
    assert others
