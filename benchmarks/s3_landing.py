"""Many small files: landing and reading them as events, on a disk and on S3, with every request.

In:  an S3 server in AWS_ENDPOINT_URL and the AWS_* variables of its credentials. Out: seconds, and
for S3 the requests by kind. What S3 costs here is round trips, which a disk does not have.

    python -m tests.s3.server radosgw       # in another terminal; prints the variables to export
    python -m benchmarks.s3_landing --days 4
"""

import argparse
import os
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from contracts.base.clock import days_between
from contracts.config.dataset import load_dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.ingestion.dedup import stage_events
from features.ingestion.landing import land
from features.shop import generate_shop

requests: Counter[str] = Counter()


def count_requests() -> None:
    """Counts what is asked of S3, by operation."""
    from aiobotocore.client import AioBaseClient

    call = AioBaseClient._make_api_call

    async def counted(self: Any, operation: str, parameters: dict) -> Any:
        requests[operation] += 1
        return await call(self, operation, parameters)

    AioBaseClient._make_api_call = counted


def upload(folder: Path) -> str:
    """Copies a folder to a bucket of its own, and returns its URL."""
    import s3fs

    system, bucket = s3fs.S3FileSystem(), f"footpath-{uuid.uuid4().hex[:12]}"
    system.mkdir(bucket)
    system.put(f"{folder}/", f"{bucket}/landing/", recursive=True)
    return f"s3://{bucket}"


def measure(where: str, source: str) -> None:
    """Lands all files into an empty lake, lands them again, and stages their events."""
    link_source("shop", source)
    dataset, lake = load_dataset("shop"), Lake.of("shop")

    def timed(what: str, work: Any) -> Any:
        requests.clear()
        started = time.perf_counter()
        result = work()
        told = ", ".join(f"{n} {name}" for name, n in sorted(requests.items()))
        print(f"{where:5} {what:12} {time.perf_counter() - started:6.2f} s  {told}", flush=True)
        return result

    report = timed("land", lambda: land(dataset, lake, None))
    print(f"{where:5} {report.files_read} files, {report.rows:,} rows")
    timed("land again", lambda: land(dataset, lake, None))
    days = days_between(min(report.days), max(report.days))
    with lake.staging() as folder:
        timed("stage events", lambda: stage_events(dataset, lake, days, folder))


def main() -> None:
    """Measures both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=4, help="of 24 files each")
    parser.add_argument("--users", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        generate_shop(shop, users=given.users, days=given.days)
        os.environ["FOOTPATH_HOME"] = f"{folder}/home"
        os.environ.pop("FOOTPATH_LAKE", None)
        measure("disk", str(shop))
        url = upload(shop)
        count_requests()
        os.environ["FOOTPATH_HOME"] = f"{folder}/home-s3"
        os.environ["FOOTPATH_LAKE"] = f"{url}/lake"
        measure("s3", f"{url}/landing")


if __name__ == "__main__":
    main()
