"""What a store refuses ends in one sentence that names the URL and what to check."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.remote import told
from features.ingestion.listing import find_files
from tests.conftest import REPOSITORY
from tests.redis_server import free_port
from tests.s3.conftest import Bucket, forget_connections, new_bucket
from tests.s3.server import moto


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets clients try once: they would wait for minutes for a server that is not there."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address at which nobody answers."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testtest")
    forget_connections()
    return endpoint


def open_lake(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    """Opens a lake that cannot be opened, and returns what is said."""
    monkeypatch.setenv("FOOTPATH_LAKE", url)
    with pytest.raises(FootpathError) as caught:
        Lake.of("shop")
    return str(caught.value)


def test_a_bucket_that_is_not_there(bucket: Bucket, monkeypatch):
    said = open_lake(monkeypatch, "s3://no-such-bucket/lake")
    assert said.startswith("s3://no-such-bucket/lake: there is no bucket 'no-such-bucket'")
    with pytest.raises(FootpathError, match="s3://no-such-bucket/x: there is no bucket"):
        find_files("s3://no-such-bucket/x", "*.csv")


def test_no_file_in_a_bucket_that_is_there(bucket: Bucket):
    assert find_files(bucket.url, "*.csv") == []


def test_a_server_that_does_not_answer(nowhere: str, monkeypatch):
    said = open_lake(monkeypatch, "s3://bucket/lake")
    assert f"s3://bucket/lake cannot be reached: {nowhere} does not answer" in said
    assert "check AWS_ENDPOINT_URL" in said
    with pytest.raises(FootpathError, match="s3://bucket/x cannot be reached"):
        find_files("s3://bucket/x", "*.csv")


@pytest.mark.long
@pytest.mark.server
def test_a_wrong_secret(radosgw, monkeypatch):
    for variable, value in radosgw.variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not it")
    forget_connections()
    said = open_lake(monkeypatch, "s3://bucket/lake")
    assert said.startswith("s3://bucket/lake is refused")
    assert "AWS_SECRET_ACCESS_KEY" in said
    assert "not it" not in said


@pytest.mark.server
def test_a_server_that_vanishes_before_a_query(monkeypatch, tmp_path: Path):
    with moto() as server:
        for variable, value in server.variables.items():
            monkeypatch.setenv(variable, value)
        forget_connections()
        url = new_bucket(server).url
        monkeypatch.setenv("FOOTPATH_LAKE", url)
        monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path))
        lake = Lake.of("shop")
        publish_table(lake, pa.table({"item_id": ["a"]}), lake.single("items"))
    with connect() as connection, pytest.raises(FootpathError) as caught, told(url):
        connection.execute(f"SELECT * FROM '{lake.single('items')}'").fetchall()
    said = str(caught.value)
    assert said.startswith(f"{url} cannot be reached: {server.endpoint} does not answer")
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said


def test_no_credentials(bucket: Bucket, monkeypatch, tmp_path: Path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    forget_connections()
    assert "needs credentials: set AWS_ACCESS_KEY_ID" in open_lake(monkeypatch, "s3://bucket/lake")


def test_the_command_line_says_it_without_a_stack_trace(nowhere: str, tmp_path: Path):
    environment = os.environ | {
        "FOOTPATH_HOME": str(tmp_path),
        "FOOTPATH_LAKE": "s3://bucket/lake",
    }
    result = subprocess.run(
        [sys.executable, "-m", "orchestration.cli.main", "leaderboard"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("footpath: s3://bucket/lake cannot be reached")
    assert len(result.stderr.splitlines()) == 1
