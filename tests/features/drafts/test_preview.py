"""A preview says what landing would do, and writes nothing."""

import gzip
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from features.drafts.preview import preview
from tests.builders.datasets import dataset_like

SHOP = dataset_like("shop")
GOOD = '{"id":"e1","user":"u1","ts":"2026-01-05T10:00:00+01:00","type":"view","item":"i1"}'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "events" / "2026-01-05").mkdir(parents=True)
    return tmp_path


def write(source: Path, *lines: str) -> None:
    (source / "events/2026-01-05/09.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))


def test_it_shows_events_and_refused_rows_with_their_lines(source, lake_home):
    write(source, GOOD, "not json", GOOD.replace("2026-01-05T", "soon"), GOOD)
    sample = preview(SHOP, str(source))
    assert (sample.files, sample.rows, sample.refused_rows) == (1, 4, 2)
    assert sample.events["source_line"].to_pylist() == [1, 4]
    assert sample.events["timestamp"][0].as_py().isoformat() == "2026-01-05T09:00:00+00:00"
    assert sample.refused["source_line"].to_pylist() == [2, 3]
    assert sample.refused["broken"].to_pylist() == ["unreadable", "undated"]
    assert [path.name for path in lake_home.iterdir()] == ["spill"]


def test_it_shows_no_more_rows_than_asked_for(source):
    write(source, *[GOOD] * 30)
    assert preview(SHOP, str(source), rows=3).events.num_rows == 3


def test_no_file_and_a_wrong_expression_are_told(source):
    with pytest.raises(FootpathError, match="has no landing file"):
        preview(SHOP, str(source))
    write(source, GOOD)
    wrong = dataset_like("shop", events=SHOP.events.model_dump() | {"action": "kind"})
    with pytest.raises(FootpathError, match=r"events.action: `kind` is not valid"):
        preview(wrong, str(source))


@pytest.mark.parametrize(("days", "refused"), [(1, 1), (3, 0)])
def test_events_may_run_ahead_of_their_file_as_far_as_the_yaml_says(source, days, refused):
    write(source, GOOD, GOOD.replace("2026-01-05T", "2026-01-08T"))
    landing = SHOP.landing.model_dump() | {"ahead_days": days}
    sample = preview(dataset_like("shop", landing=landing), str(source))
    assert sample.refused["broken"].to_pylist() == ["out_of_range"] * refused
    assert sample.events.num_rows == 2 - refused
