"""S3 servers, one of each kind a run, and the environment in which everything finds them."""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.s3.server import KINDS, NoServerError, Server


def _run(kind: str) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(KINDS[kind]())
        except NoServerError as reason:
            pytest.skip(str(reason))
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    yield from _run("moto")


@pytest.fixture(scope="session")
def radosgw() -> Iterator[Server]:
    yield from _run("radosgw")


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("moto", marks=pytest.mark.server),
        pytest.param("radosgw", marks=[pytest.mark.server, pytest.mark.long]),
    ],
)
def server(request: pytest.FixtureRequest) -> Server:
    """A server of each kind."""
    return request.getfixturevalue(request.param)


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of a server."""

    server: Server
    name: str

    @property
    def url(self) -> str:
        """Its address."""
        return f"s3://{self.name}"

    def put(self, folder: Path, prefix: str) -> str:
        """Copies the files below a folder to a prefix, and returns the URL of that."""
        client = self.server.client()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())
        return f"{self.url}/{prefix}"


def new_bucket(server: Server) -> Bucket:
    """Makes a bucket."""
    name = f"footpath-{uuid.uuid4().hex[:12]}"
    server.client().create_bucket(Bucket=name)
    return Bucket(server, name)


def forget_connections() -> None:
    """Drops what this process holds of a server: fsspec keeps one file system a process."""
    import s3fs

    from contracts.lake import layout

    layout._remote.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket of the server that the environment now leads to."""
    for variable, value in server.variables.items():
        monkeypatch.setenv(variable, value)
    forget_connections()
    yield new_bucket(server)
    forget_connections()
