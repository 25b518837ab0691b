"""Partitions that are added as they come are kept in the order of their days."""

import dagster as dg
import pytest

from contracts.base.errors import FootpathError
from orchestration.partitions import (
    add_days,
    add_requested,
    cell,
    days_by_version,
    embedded_days,
    parse_day,
)
from tests.builders.datasets import shop
from tests.builders.store import publish_model

SHOP = shop()


def test_days_are_in_order_whenever_they_are_added():
    with dg.DagsterInstance.ephemeral() as instance:
        for added in (["2026-01-28"], ["2026-01-21"], ["2026-01-25", "2026-01-21", "2026-01-30"]):
            add_days(instance, embedded_days(SHOP), added)
        found = instance.get_dynamic_partitions("shop_embedded_days")
    assert found == ["2026-01-21", "2026-01-25", "2026-01-28", "2026-01-30"]


def test_a_range_of_day_by_version_is_the_days_and_versions_between_its_ends():
    versions = ["a_v1", "b_v1"]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("shop_model_versions", versions)
        for day in ("2026-01-10", "2026-01-08", "2026-01-09", "2026-01-07"):
            add_days(instance, embedded_days(SHOP), [day])
        ends = dg.PartitionKeyRange(cell("2026-01-08", "a_v1"), cell("2026-01-10", "b_v1"))
        found = days_by_version(SHOP).get_partition_keys_in_range(ends, instance)
    assert found == [cell(f"2026-01-{d:02}", v) for d in (8, 9, 10) for v in versions]


def test_an_instance_that_has_made_no_model_embeds_by_those_of_the_lake(lake):
    for version in ("b_v1", "a_v1"):
        publish_model(lake, version)
    first, last = cell("2026-01-08", "b_v1"), cell("2026-01-09", "a_v1")
    with dg.DagsterInstance.ephemeral() as instance:
        add_requested(instance, SHOP, "embedding", first, last)
        asked = dg.PartitionKeyRange(first, last)
        found = days_by_version(SHOP).get_partition_keys_in_range(asked, instance)
    assert found == [cell(f"2026-01-{d:02}", v) for d in (8, 9) for v in ("b_v1", "a_v1")]


def test_a_partition_that_somebody_mistyped_is_refused_with_a_sentence():
    with pytest.raises(FootpathError, match="'2026-1-8' is not a day: write it as 2026-01-31"):
        parse_day("2026-1-8")
