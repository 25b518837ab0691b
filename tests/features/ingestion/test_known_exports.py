"""Exports as well-known analytics tools write them land whole, every value as it means.

The rows are made up; their shapes are those of the tools' public documentation.
"""

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from features.ingestion.landing import land
from tests.builders.datasets import shop_like
from tests.builders.landing import linked, zip_of

START = dt.datetime(2026, 1, 5, 10, tzinfo=dt.UTC)
SLUG = "trim(regexp_replace(lower({}), '[^a-z0-9]+', '_', 'g'), '_')"


def dataset_of(landing: dict[str, Any], events: dict[str, Any]) -> Dataset:
    return shop_like(
        timezone="UTC",
        partitions={"start": "2026-01-05", "end": "2026-01-07"},
        landing=landing,
        events=events,
    )


def landed_events(
    folder: Path, files: dict[str, bytes | str], landing: dict[str, Any], events: dict[str, Any]
) -> list[dict[str, Any]]:
    """The events that some files become, in order; every row has to become one."""
    source = linked(folder / "source")
    for path, content in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    lake = Lake.of("shop")
    report = land(dataset_of(landing, events), lake, None)
    assert report.quarantined == 0
    rows = []
    for path in lake.table("landing").glob("fragments/*/*.parquet"):
        rows += pq.ParquetFile(path).read().to_pylist()
    for row in rows:
        row["properties"] = dict(row["properties"] or ())
    return sorted(rows, key=lambda row: (row["timestamp"], row["source_element"] or 0))


def moments(count: int) -> list[dt.datetime]:
    return [START + dt.timedelta(hours=n) for n in range(count)]


def test_ga4_rows_with_items_and_key_value_parameters(tmp_path, lake_home):
    def line(n: int, at: dt.datetime) -> str:
        items = [{"item_id": f"P{n}{i}", "item_name": "x", "price": n + 0.5} for i in range(n % 3)]
        return json.dumps(
            {
                "event_timestamp": str(int(at.timestamp() * 1_000_000) + 497_000),
                "event_name": "purchase" if n % 3 else "page_view",
                "event_params": [
                    {"key": "page_location", "value": {"string_value": f"https://x/{n}"}},
                    {"key": "ga_session_id", "value": {"int_value": "981985"}},
                    {"key": "value", "value": {"double_value": 30.5}},
                ],
                "user_pseudo_id": "1000008.1767000008",
                "geo": {"country": "Germany", "city": "(not set)"},
                "items": items,
            }
        )

    columns = {
        "event_timestamp": "BIGINT",
        "event_name": "VARCHAR",
        "user_pseudo_id": "VARCHAR",
        "event_params": "STRUCT(key VARCHAR, value STRUCT(string_value VARCHAR, "
        "int_value BIGINT, double_value DOUBLE))[]",
        "items": "STRUCT(item_id VARCHAR, price DOUBLE)[]",
        "geo": "STRUCT(country VARCHAR)",
    }
    param = "list_filter(event_params, lambda p: p.key = '{}')[1].value.{}"
    found = landed_events(
        tmp_path,
        {"events_20260105/0.json": "\n".join(map(line, range(6), moments(6)))},
        {"url": "events_{year}{month}{day}/*.json", "format": "jsonl", "columns": columns},
        {
            "user_id": "user_pseudo_id",
            "timestamp": "make_timestamptz(event_timestamp)",
            "action": "event_name",
            "explode": "items",
            "item_id": "each.item_id",
            "value": "each.price",
            "session_id": f"user_pseudo_id || '-' || {param.format('ga_session_id', 'int_value')}",
            "properties": {
                "country": "geo.country",
                "page": param.format("page_location", "string_value"),
            },
        },
    )
    assert [(e["item_id"], e["value"]) for e in found] == [
        (None, None), ("P10", 1.5), ("P20", 2.5), ("P21", 2.5),
        (None, None), ("P40", 4.5), ("P50", 5.5), ("P51", 5.5),
    ]  # fmt: skip
    assert found[0]["timestamp"] == START + dt.timedelta(microseconds=497_000)
    assert {e["session_id"] for e in found} == {"1000008.1767000008-981985"}
    assert found[1]["properties"] == {"country": "Germany", "page": "https://x/1"}


def test_segment_folders_by_epoch(tmp_path, lake_home):
    files = {}
    for day in range(2):
        at = START + dt.timedelta(days=day)
        midnight = int(at.replace(hour=0).timestamp() * 1000)
        rows = [
            {
                "messageId": f"m{day}{n}",
                "anonymousId": "anon",
                "userId": "c1" if n else None,
                "type": "track" if n else "page",
                **({"event": "Order Completed"} if n else {}),
                "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "receivedAt": "2026-02-01T00:00:00.000Z",
                "properties": {"product_id": "P-9", "price": 18.5, "products": [{"price": 3.5}]},
            }
            for n in range(2)
        ]
        text = "\n".join(map(json.dumps, rows)).encode()
        files[f"logs/srcAbc/{midnight}/1.gz"] = gzip.compress(text)
    found = landed_events(
        tmp_path,
        files,
        {
            "url": "logs/*/{epoch_ms}/*.gz",
            "format": "jsonl",
            "columns": {
                "messageId": "VARCHAR", "userId": "VARCHAR", "anonymousId": "VARCHAR",
                "type": "VARCHAR", "event": "VARCHAR", "timestamp": "VARCHAR",
                "properties": "STRUCT(product_id VARCHAR, price DOUBLE)",
            },
            "optional": ["event"],
        },
        {
            "event_id": '"messageId"',
            "user_id": 'coalesce("userId", "anonymousId")',
            "timestamp": "TRY_CAST(timestamp AS TIMESTAMPTZ)",
            "action": f"coalesce({SLUG.format('event')}, type)",
            "item_id": "properties.product_id",
            "value": "CASE WHEN event = 'Order Completed' THEN properties.price END",
        },
    )  # fmt: skip
    assert [(e["event_id"], e["user_id"], e["action"], e["value"]) for e in found] == [
        ("m00", "anon", "page", None), ("m01", "c1", "order_completed", 18.5),
        ("m10", "anon", "page", None), ("m11", "c1", "order_completed", 18.5),
    ]  # fmt: skip


def test_mixpanel_properties_as_json(tmp_path, lake_home):
    rows = [
        {
            "event": "$mp_web_page_view" if n else "Add to Cart",
            "properties": {
                "time": int(at.timestamp()),
                "distinct_id": f"$device:{n}",
                "$insert_id": f"i-{n}",
                "Item": f"I{n}",
                "Price": 15.5,
            },
        }
        for n, at in enumerate(moments(2))
    ]
    found = landed_events(
        tmp_path,
        {"export.jsonl": "\n".join(map(json.dumps, rows))},
        {
            "url": "*.jsonl",
            "format": "jsonl",
            "columns": {"event": "VARCHAR", "properties": "JSON"},
        },
        {
            "event_id": "properties ->> '$.\"$insert_id\"'",
            "user_id": "properties ->> '$.distinct_id'",
            "timestamp": "to_timestamp((properties ->> '$.time')::BIGINT)",
            "action": SLUG.format("event"),
            "item_id": "properties ->> '$.Item'",
            "value": "(properties ->> '$.Price')::DOUBLE",
        },
    )
    assert [
        (e["event_id"], e["user_id"], e["action"], e["item_id"], e["value"]) for e in found
    ] == [
        ("i-0", "$device:0", "add_to_cart", "I0", 15.5),
        ("i-1", "$device:1", "mp_web_page_view", "I1", 15.5),
    ]
    assert [e["timestamp"] for e in found] == moments(2)


def test_amplitude_hours_in_a_zip(tmp_path, lake_home):
    files = {}
    for n, at in enumerate(START.replace(hour=0) + dt.timedelta(hours=h) for h in range(24)):
        row = {"uuid": f"u{n}", "user_id": None, "device_id": "d1", "event_type": "[A] Page Viewed"}
        row |= {"event_time": f"{at:%Y-%m-%d %H:%M:%S}.5", "session_id": -1 if n % 2 else 17}
        row |= {"event_properties": {"item": f"I{n}", "price": n}}
        name = f"1234/1234_{at:%Y-%m-%d}_{at.hour}#1.json.gz"
        files[name] = gzip.compress(json.dumps(row).encode())
    found = landed_events(
        tmp_path,
        {"export.zip": zip_of(files)},
        {
            "url": "export.zip/1234/*_{year}-{month}-{day}_{hour}#*.json.gz",
            "format": "jsonl",
            "columns": {
                "uuid": "VARCHAR", "user_id": "VARCHAR", "device_id": "VARCHAR",
                "event_type": "VARCHAR", "event_time": "VARCHAR", "session_id": "VARCHAR",
                "event_properties": "STRUCT(item VARCHAR, price DOUBLE)",
            },
        },
        {
            "event_id": "uuid",
            "user_id": "coalesce(user_id, device_id)",
            "timestamp": "TRY_CAST(event_time AS TIMESTAMP) AT TIME ZONE 'UTC'",
            "action": SLUG.format("event_type"),
            "item_id": "event_properties.item",
            "value": "event_properties.price",
            "session_id": "nullif(session_id, '-1')",
        },
    )  # fmt: skip
    assert [(e["event_id"], e["value"]) for e in found] == [(f"u{n}", n) for n in range(24)]
    assert [e["session_id"] for e in found[:2]] == ["17", None]
    assert {(e["user_id"], e["action"]) for e in found} == {("d1", "a_page_viewed")}


@pytest.mark.parametrize("indent", [None, 2])
def test_matomo_visits_in_an_array(tmp_path, lake_home, indent):
    visits = [
        {
            "idVisit": str(1000 + n),
            "visitorId": "0000000000000001",
            "userId": None,
            "country": "Germany",
            "actionDetails": [
                {"type": "action", "url": f"https://x/{i}", "timestamp": int(at.timestamp()) + i}
                for i in range(3)
            ],
        }
        for n, at in enumerate(moments(4))
    ]
    found = landed_events(
        tmp_path,
        {"visits.json": json.dumps(visits, indent=indent)},
        {
            "url": "visits.json",
            "format": "jsonl",
            "columns": {
                "idVisit": "VARCHAR", "visitorId": "VARCHAR", "userId": "VARCHAR",
                "country": "VARCHAR",
                "actionDetails": "STRUCT(type VARCHAR, url VARCHAR, timestamp BIGINT)[]",
            },
        },
        {
            "event_id": "\"idVisit\" || '-' || place",
            "user_id": 'coalesce("userId", "visitorId")',
            "timestamp": "to_timestamp(each.timestamp)",
            "action": "each.type",
            "item_id": "each.url",
            "explode": '"actionDetails"',
            "session_id": '"idVisit"',
        },
    )  # fmt: skip
    assert [e["event_id"] for e in found] == [
        f"{1000 + n}-{i}" for n in range(4) for i in (1, 2, 3)
    ]
    assert [e["source_line"] for e in found[::3]] == [1, 2, 3, 4]
    assert found[4]["timestamp"] == START + dt.timedelta(hours=1, seconds=1)


def test_shopify_orders_with_line_items_over_lines(tmp_path, lake_home):
    header = (
        "Name,Email,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,Notes"
    )
    lines = []
    for n, at in enumerate(moments(3)):
        local = at + dt.timedelta(hours=1)
        lines.append(
            f"#100{n},c{n}@x.example,{local:%Y-%m-%d %H:%M:%S} +0100,{n + 1},"
            f'"Thing - 21"" / ""L"", blue",35.50,SKU-{n},"line one\nline two"'
        )
    found = landed_events(
        tmp_path,
        {"orders_export_1.csv": "\n".join([header, *lines])},
        {
            "url": "orders_export_*.csv",
            "format": "csv",
            "columns": {
                "Name": "VARCHAR", "Email": "VARCHAR", "Created at": "VARCHAR",
                "Lineitem quantity": "DOUBLE", "Lineitem name": "VARCHAR",
                "Lineitem price": "DOUBLE", "Lineitem sku": "VARCHAR",
            },
        },
        {
            "user_id": '"Email"',
            "timestamp": "try_strptime(\"Created at\", '%Y-%m-%d %H:%M:%S %z')",
            "action": "'purchase'",
            "item_id": '"Lineitem sku"',
            "value": '"Lineitem price" * "Lineitem quantity"',
            "session_id": '"Name"',
            "properties": {"name": '"Lineitem name"'},
        },
    )  # fmt: skip
    assert [(e["timestamp"], e["item_id"], e["value"]) for e in found] == [
        (at, f"SKU-{n}", 35.5 * (n + 1)) for n, at in enumerate(moments(3))
    ]
    assert {e["properties"]["name"] for e in found} == {'Thing - 21" / "L", blue'}
