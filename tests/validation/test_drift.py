"""Features whose distribution moves are found; steady ones are not, and the page loads nothing."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.lake.layout import Lake
from contracts.lake.schemas import BUILT_FROM
from tests.builders.daily import gate
from tests.builders.datasets import dataset_like
from tests.validation.staged import DAY, FEATURES, feature, write
from validation.descriptions import bin_of, distances, quantiles, stability
from validation.drift import write_drift_page

SHOP = dataset_like("shop", partitions={"start": DAY - dt.timedelta(days=60)})
NEW = dataset_like("shop", partitions={"start": DAY})
LAST = DAY + dt.timedelta(days=9)


def steady(day: dt.date, users: int = 300, factor: float = 1.0) -> list[dict]:
    draw = np.random.default_rng(day.toordinal())
    end = feature()["event_timestamp"] + (day - DAY)
    return [
        feature(
            f"u{n}",
            event_timestamp=end,
            created=end,
            written_at=end,
            events_1d=int(draw.poisson(3)),
            value_1d=float(factor * draw.normal(20, 5)),
        )
        for n in range(users)
    ]


def gate_days(lake: Lake, days: dict, dataset=SHOP, schema: pa.Schema = FEATURES) -> dict:
    table = "user_behavior_features"
    with lake.staging() as folder:
        staged = {day: write(folder, day, rows, schema) for day, rows in days.items()}
        return gate(dataset, lake, table, staged, folder)


def test_a_feature_that_moves_is_a_warning_and_the_others_are_not(lake):
    days = {DAY + dt.timedelta(days=n): steady(DAY + dt.timedelta(days=n)) for n in range(9)}
    gate_days(lake, days)
    moved = gate_days(lake, {LAST: steady(LAST, factor=2.0)})[LAST]
    assert moved.passed
    (warning,) = moved.warnings
    assert "the distribution of 1 features" in warning
    assert "value_1d" in warning
    assert moved.profile["psi"]["events_1d"] < 0.1 < 1 < moved.profile["psi"]["value_1d"]
    assert moved.profile["js"]["events_1d"] < 0.2 < 0.5 < moved.profile["js"]["value_1d"]
    after = LAST + dt.timedelta(days=1)
    assert gate_days(lake, {after: steady(after)})[after].warnings == []


def test_a_feature_that_is_null_more_often_has_drifted(lake):
    def partly(day: dt.date, share: float) -> list[dict]:
        rows = steady(day)
        return [row | {"value_1d": None} if n < share * 300 else row for n, row in enumerate(rows)]

    days = {DAY + dt.timedelta(days=n): partly(DAY + dt.timedelta(days=n), 0.2) for n in range(9)}
    assert not any(verdict.warnings for verdict in gate_days(lake, days).values())
    moved = gate_days(lake, {LAST: partly(LAST, 0.7)})[LAST]
    assert moved.passed
    assert moved.profile["psi"]["events_1d"] < 0.1 < 0.5 < moved.profile["psi"]["value_1d"]
    (warning,) = moved.warnings
    assert "value_1d" in warning


def test_a_changed_list_of_features_is_no_drift(lake):
    """Days are rebuilt with a feature that rows of before lack; later days have no other."""
    built = {BUILT_FROM: json.dumps({"features": {"value_1d": "a hash"}}).encode()}

    def rebuilt(day: dt.date) -> list[dict]:
        rows = steady(day)
        late = dt.timedelta(days=40)
        before = [row | {"value_1d": None} for row in rows[:200]]
        return before + [row | {"created": row["created"] + late} for row in rows]

    days = {DAY + dt.timedelta(days=n): rebuilt(DAY + dt.timedelta(days=n)) for n in range(9)}
    assert not any(verdict.warnings for verdict in gate_days(lake, days).values())
    rows = [row | {"events_1d": None} for row in steady(LAST)]
    fresh = gate_days(lake, {LAST: rows}, schema=FEATURES.with_metadata(built))[LAST]
    assert fresh.passed
    assert fresh.warnings == []
    assert fresh.profile["psi"].keys() == {"value_1d"}
    assert sum(fresh.profile["bins.value_1d"].values()) == 300


def test_a_feature_is_judged_once_enough_days_before_have_it(lake):
    def narrow(day: dt.date) -> list[dict]:
        return [{n: v for n, v in row.items() if n != "value_1d"} for row in steady(day)]

    days = [DAY + dt.timedelta(days=n) for n in range(10)]
    without = FEATURES.remove(FEATURES.get_field_index("value_1d"))
    gate_days(lake, {day: narrow(day) for day in days[:6]}, schema=without)
    verdicts = gate_days(lake, {day: steady(day) for day in days[6:]})
    assert {*verdicts[days[-1]].profile["psi"]} == {"events_1d"}


def test_days_in_which_windows_still_fill_are_no_reference(lake):
    days = {DAY + dt.timedelta(days=n): steady(DAY + dt.timedelta(days=n)) for n in range(10)}
    verdicts = gate_days(lake, days, NEW)
    assert not any("psi" in verdict.profile for verdict in verdicts.values())
    assert write_drift_page(NEW, lake, "user_behavior_features") is None


def test_days_of_a_range_and_of_single_runs_are_judged_alike(lake, tmp_path, monkeypatch):
    # Longer than a day is held against: days leave the reference too.
    days = {DAY + dt.timedelta(days=n): steady(DAY + dt.timedelta(days=n), 40) for n in range(14)}
    weekly = dataset_like(
        "shop",
        partitions={"start": DAY - dt.timedelta(days=60)},
        quality={"drift": {"days": 7, "min_days": 3}},
    )
    days[list(days)[5]] = []
    together = gate_days(lake, days, weekly)
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / "other"))
    for day, rows in days.items():
        (alone,) = gate_days(Lake.of("shop"), {day: rows}, weekly).values()
        assert alone.profile == together[day].profile
        assert alone.warnings == together[day].warnings
    assert together[LAST].profile["psi"].keys() == {"events_1d", "value_1d"}


def test_the_page_shows_the_index_by_feature_and_loads_nothing(lake):
    days = {DAY + dt.timedelta(days=n): steady(DAY + dt.timedelta(days=n)) for n in range(10)}
    gate_days(lake, days)
    page = write_drift_page(SHOP, lake, "user_behavior_features")
    assert page is not None
    text = Path(page).read_text()
    assert "value_1d" in text
    assert "data:image/png;base64," in text
    for found in (lake.root / "data_docs").rglob("*.html"):
        assert "http" not in found.read_text()


def test_a_sketch_gives_quantiles_to_the_width_of_a_bin(tmp_path):
    import duckdb

    draw = np.random.default_rng(0)
    values = np.concatenate([draw.lognormal(3, 2, 20_000), -draw.lognormal(1, 1, 5000), [0.0] * 99])
    duckdb.execute("CREATE OR REPLACE TEMP TABLE v AS SELECT unnest(?) AS v", [values.tolist()])
    bins = duckdb.execute(f"SELECT histogram({bin_of('v')}) FROM v").fetchall()[0][0]
    assert sum(bins.values()) == len(values)
    for share in (0.05, 0.3, 0.5, 0.9, 0.99):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert abs(quantiles(bins, [share])[0] - exact) <= 0.1 * abs(exact)


def test_psi_and_jensen_shannon_equal_their_definitions():
    reference, day = {1: 50, 2: 50}, {1: 80, 2: 20}
    p, q = (np.array([80, 20]) + 0.5) / 101, (np.array([50, 50]) + 0.5) / 101
    assert stability(day, reference) == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert stability(reference, reference) == 0
    p, q = np.array([0.8, 0.2]), np.array([0.5, 0.5])
    m = (p + q) / 2
    divergence = (p * np.log2(p / m)).sum() / 2 + (q * np.log2(q / m)).sum() / 2
    assert distances(day, [reference])[0] == pytest.approx(np.sqrt(divergence))
    assert distances({1: 5}, [{2: 7}])[0] == pytest.approx(1.0)


def test_days_without_rows_of_features_are_published(lake):
    gate_days(lake, {DAY: []})
    rows = pq.read_table(lake.day("user_behavior_features", DAY))
    assert len(rows) == 0
