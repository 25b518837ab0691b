"""Looks at a lake while others write to it, as a reader would: by its globs."""

import fnmatch
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# What readers look for, and where a whole Parquet object must be whatever they find.
GLOBS = (
    "*.parquet",
    "events/*.parquet",
    "sessions/*.parquet",
    "user_behavior_features/*.parquet",
    "user_embeddings/*/*.parquet",
    "labels/*.parquet",
    "landing/fragments/*/*.parquet",
    "quarantine/*/*.parquet",
)


class Watcher:
    """Polls in a thread of its own and reads each version of each object once.

    Args:
      root: of the lake: a local folder, or bucket/prefix.
      client: of boto3, where the lake is on S3: it shares no code with the lake.
      pause: seconds between two looks.
    """

    def __init__(self, root: str, client: Any = None, pause: float = 0.02) -> None:
        self.root, self.client, self.pause = root, client, pause
        self.faults: list[str] = []
        self.seen: dict[str, str] = {}  # name -> version
        self.names: set[str] = set()
        self.looks = self.read = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.look()

    def _watch(self) -> None:
        while not self._stop.wait(self.pause):
            self.look()

    def look(self) -> None:
        """Looks once."""
        self.looks += 1
        found = self._listed() if self.client else self._globbed()
        self.names |= found.keys()
        for name, version in found.items():
            if self.seen.get(name) != version:
                self.seen[name] = version
                self._check(name)

    def _globbed(self) -> dict[str, str]:
        found = {}
        for glob in GLOBS:
            for path in Path(self.root).glob(glob):
                try:
                    status = path.stat()
                except FileNotFoundError:  # removed since the listing
                    continue
                name = path.relative_to(self.root).as_posix()
                found[name] = f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"
        return found

    def _listed(self) -> dict[str, str]:
        bucket, _, prefix = self.root.partition("/")
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"{prefix}/"
        )
        objects = [thing for page in pages for thing in page.get("Contents", [])]
        return {thing["Key"][len(prefix) + 1 :]: thing["ETag"] for thing in objects}

    def _check(self, name: str) -> None:
        if not any(
            fnmatch.fnmatchcase(name, glob) and name.count("/") == glob.count("/") for glob in GLOBS
        ):
            return
        try:
            data = self._bytes(name)
        except FileNotFoundError:
            return
        self.read += 1
        try:
            pq.read_table(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            self.faults.append(f"{name}: {error}")

    def _bytes(self, name: str) -> bytes:
        if not self.client:
            return (Path(self.root) / name).read_bytes()
        bucket, _, prefix = self.root.partition("/")
        try:
            return self.client.get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read()
        except self.client.exceptions.NoSuchKey:
            raise FileNotFoundError(name) from None
