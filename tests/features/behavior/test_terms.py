"""Formulas over sums: what rounding may and may not take away."""

import datetime as dt

import ibis
import pytest

from features.behavior.terms import deviation, entropy, hours_since, ratio, total

NOON = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
INSTANT = "timestamp('UTC', 6)"
SCHEMA = {"n_1": "int64", "s_1": "int64", "q_1": "int64", "last_1": INSTANT, "ends": INSTANT}


def deviation_of(values: list[int]) -> float:
    sums = {"n_1": len(values), "s_1": sum(values), "q_1": sum(v * v for v in values)}
    rows = ibis.memtable([sums])
    term = deviation(total("n", 1), total("s", 1), total("q", 1))
    return ibis.duckdb.connect().execute(rows.select(it=term.formula(rows)))["it"][0]


@pytest.mark.parametrize(("values", "expected"), [([691_200, 691_201], 0.5), ([3, 5], 1.0)])
def test_a_spread_that_is_small_against_the_mean_is_kept(values, expected):
    assert deviation_of(values) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("count", [1, 3, 7, 1_000])
@pytest.mark.parametrize("value", [0, 999, 1_234_567, 2_592_001])
def test_alike_values_have_no_spread(value, count):
    assert deviation_of([value] * count) == 0.0


def test_of_nothing_there_is_no_ratio_spread_entropy_or_recency():
    nothing = {"n_1": 0, "s_1": 0, "q_1": 0, "last_1": None, "ends": NOON}
    rows = ibis.memtable([nothing], schema=SCHEMA)
    n, s, q = (total(name, 1) for name in "nsq")
    terms = [ratio(s, n), ratio(s, n, 2.5), deviation(n, s, q), entropy([n, s])]
    terms += [hours_since("last", 1), hours_since("last", 1, cap=2)]
    for term in terms:
        found = ibis.duckdb.connect().to_pyarrow(rows.select(it=term.formula(rows)))
        assert found["it"].to_pylist() == [None]


def test_one_of_a_kind_has_entropy_and_spread_zero_which_is_not_nothing():
    rows = ibis.memtable([{"n_1": 1, "s_1": 0, "q_1": 0, "last_1": NOON, "ends": NOON}])
    n, s, q = (total(name, 1) for name in "nsq")
    for term in (ratio(s, n), deviation(n, s, q), entropy([n, s]), hours_since("last", 1, cap=2)):
        assert ibis.duckdb.connect().execute(rows.select(it=term.formula(rows)))["it"][0] == 0
