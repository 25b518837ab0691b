"""Who is answered: those with a token, by the service's own names, in bounded requests."""

from pathlib import Path

import pytest
import yaml

from contracts.base.errors import FootpathError
from orchestration.http.guard import MAX_BYTES
from orchestration.http.server import serve
from orchestration.http.settings import Settings
from orchestration.http.tokens import TokenEntry, Tokens, new_token, read_tokens
from tests.orchestration.http.conftest import client_of

FEATURES = {"dataset": "shop", "service": "user_representation__v1", "users": ["u1"]}
SIMILAR = {"dataset": "shop", "user": "u1"}


def write_tokens(path: Path, **services: list[str]) -> dict[str, dict[str, str]]:
    """Writes a file of tokens; returns the header of each."""
    made = {name: new_token() for name in services}
    entries = [
        {"name": name, "sha256": made[name][1], "services": globs}
        for name, globs in services.items()
    ]
    path.touch(0o600)
    path.write_text(yaml.safe_dump({"tokens": entries}))
    return {name: {"authorization": f"Bearer {token}"} for name, (token, _) in made.items()}


def test_a_token_gives_its_services_and_nothing_else(home: Path, tmp_path: Path):
    path = tmp_path / "tokens.yaml"
    headers = write_tokens(path, ranking=["shop/user_*"], ages=["shop/age__v1", "shop/users"])
    with client_of(tokens=str(path)) as client:

        def status(who: str, path: str, body: dict) -> int:
            return client.post(path, json=body, headers=headers.get(who)).status_code

        assert status("nobody", "/v1/features", FEATURES) == 401
        assert client.get("/v1/services", headers={"authorization": "Bearer x"}).status_code == 401
        assert client.get("/metrics").status_code == 401
        assert client.get("/health").status_code == 200
        assert status("ranking", "/v1/features", FEATURES) == 200
        assert status("ages", "/v1/features", FEATURES) == 403
        assert status("ages", "/v1/features", FEATURES | {"service": "age__v1"}) == 200
        assert status("ages", "/v1/features", FEATURES | {"service": "user_nothing"}) == 403
        assert status("ages", "/v1/similar", SIMILAR) == 403
        assert status("ranking", "/v1/similar", SIMILAR) == 200
        assert status("ranking", "/v1/similar", SIMILAR | {"filters": {"gender": "f"}}) == 403
        assert (
            status("ranking", "/v1/scores", {"dataset": "shop", "task": "age", "users": ["u1"]})
            == 403
        )
        seen = client.get("/v1/services", headers=headers["ages"]).json()["datasets"]["shop"]
        assert seen["aliases"] == {"age": "age__v1"}
        assert list(seen["services"]) == ["age__v1"]


def test_a_token_that_is_taken_back_is_refused_without_a_restart(home: Path, tmp_path: Path):
    path = tmp_path / "tokens.yaml"
    before = write_tokens(path, ranking=["*/*"])["ranking"]
    with client_of(tokens=str(path), refresh_seconds=0.02) as client:
        assert client.get("/v1/services", headers=before).status_code == 200
        after = write_tokens(path, ranking=["*/*"])["ranking"]
        for _ in range(200):
            if client.get("/v1/services", headers=before).status_code == 401:
                break
        assert client.get("/v1/services", headers=before).status_code == 401
        assert client.get("/v1/services", headers=after).status_code == 200
        path.write_text("tokens: [")  # by mistake: nobody is shut out, and health says so
        for _ in range(200):
            health = client.get("/health").json()
            if health["faults"]:
                break
        assert "tokens cannot be read" in health["faults"][0]
        assert client.get("/v1/services", headers=after).status_code == 200


def test_a_token_is_found_by_its_hash_alone():
    token, digest = new_token()
    entries = [TokenEntry(name="a", sha256=new_token()[1], services=["shop/*"])]
    tokens = Tokens([*entries, TokenEntry(name="b", sha256=digest, services=["shop/*"])])
    found = tokens.caller(f"bearer {token}")
    assert found is not None
    assert found.name == "b"
    for header in ("", token, f"Basic {token}", f"Bearer {digest}", f"Bearer {token}x", "Bearer "):
        assert tokens.caller(header) is None


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("tokens: []", 0o600, "tokens"),
        ("tokens: [", 0o600, "is no YAML"),
        ("- a", 0o600, "tokens.yaml"),
        ("tokens: [{name: a, sha256: secret, services: ['*/*']}]", 0o600, "sha256"),
        (f"tokens: [{{name: a, sha256: {'0' * 64}, services: [all]}}]", 0o600, "services"),
        (f"tokens: [{{name: a, sha256: {'0' * 64}, services: ['*/*']}}]", 0o604, "chmod 600"),
    ],
)
def test_a_file_of_tokens_that_is_none_or_that_all_may_read_is_refused(tmp_path, text, mode, said):
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(FootpathError, match=said):
        read_tokens(path)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.7", "::", "shop.example"])
def test_other_machines_are_not_answered_without_tokens(host: str):
    with pytest.raises(FootpathError, match="give --tokens"):
        serve(Settings(), host, 8600, workers=1)


def test_foreign_names_and_pages_are_refused(client, monkeypatch: pytest.MonkeyPatch):
    def status(**headers: str) -> int:
        return client.get("/v1/services", headers=headers).status_code

    assert status(host="127.0.0.1:8600") == 200
    assert status(host="evil.example") == 403
    assert status(origin="http://evil.example") == 403
    assert status(**{"sec-fetch-site": "cross-site"}) == 403
    monkeypatch.setenv("FOOTPATH_SERVE_HOSTS", "features.example")
    with client_of() as named:
        headers = {"host": "features.example"}
        assert named.get("/v1/services", headers=headers).status_code == 200


def test_a_body_is_bounded_whether_it_tells_its_size_or_not(client):
    def pieces():
        for _ in range(3):
            yield b" " * (MAX_BYTES // 2)

    for body in (b" " * (MAX_BYTES + 1), pieces()):
        response = client.post("/v1/features", content=body)
        assert (response.status_code, list(response.json())) == (413, ["error"])


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/features", b"{", 422),
        ("POST", "/v1/features", b"[" * 100_000, 400),
        ("POST", "/v1/features", b'{"dataset": "\xff"}', 400),
        ("GET", "/../../etc/passwd", b"", 404),
        ("GET", "/push", b"", 404),
        ("POST", "/push", b"{}", 404),
        ("PUT", "/v1/features", b"{}", 405),
        ("DELETE", "/v1/services", b"", 405),
    ],
)
def test_errors_are_one_sentence_without_path_or_traceback(
    client, home, method, path, content, status
):
    headers = {"content-type": "application/json"}
    response = client.request(method, path, content=content, headers=headers)
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert str(home) not in response.text
    assert "Traceback" not in response.text


def test_nothing_that_is_served_writes(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {path: sorted(methods) for path, methods in paths.items()} == {
        "/v1/services": ["get"],
        "/v1/features": ["post"],
        "/v1/similar": ["post"],
        "/v1/encode": ["post"],
        "/v1/scores": ["post"],
        "/health": ["get"],
        "/metrics": ["get"],
    }
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert all(path in page.text for path in paths)
    assert "<script" not in page.text


def test_requests_and_users_are_measured(client):
    assert client.post("/v1/features", json=FEATURES | {"users": ["u1", "u2"]}).status_code == 200
    text = client.get("/metrics").text
    assert 'footpath_serve_requests_total{path="/v1/features",status="200"}' in text
    assert 'footpath_serve_users_total{dataset="shop",service="user_representation__v1"}' in text
    client.get("/anything/at/all")
    assert "anything" not in client.get("/metrics").text
