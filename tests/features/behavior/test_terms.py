"""Formulas over sums: what rounding may and may not take away."""

import ibis
import pytest

from features.behavior.terms import deviation, total


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
