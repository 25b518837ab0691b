"""What a program reads is fetched from S3 before it starts."""

from pathlib import Path

from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from orchestration.programs import _fetched
from tests.s3.conftest import Bucket


def test_everything_that_a_training_reads_is_fetched(bucket: Bucket, lake_home: Path, monkeypatch):
    monkeypatch.setenv("FOOTPATH_LAKE", f"{bucket.url}/lake")
    lake = Lake.of("shop")
    pointer, labels = lake.root / "sequences" / "d.json", lake.root / "labels" / "d.json"
    publish_json(lake, {"folder": "d-01"}, pointer)
    publish_json(lake, {"n": 1}, pointer.parent / "d-01" / "meta.json")
    publish_json(lake, {"n": 2}, labels)
    config = {
        "sequences": str(pointer),
        "out": str(lake.root / "models" / "v1"),
        "validation": {"labels": str(labels), "task": "gender"},
    }
    fetched = _fetched(lake, config)
    assert Path(fetched["sequences"]).is_file()
    assert (Path(fetched["sequences"]).parent / "d-01" / "meta.json").is_file()
    assert Path(fetched["validation"]["labels"]).is_file()
    assert fetched["validation"]["task"] == "gender"
