"""Exports of well-known tools, in the shapes that their documentation gives, are drafted as they
mean: the draft loads, and the reader of landing makes the right events of it."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.builders.drafts import drafted, put

EPOCH = 1767571200  # 2026-01-05

ASKS = "# TODO: what do you want to know of a user? Any log answers these questions."


@pytest.fixture(autouse=True)
def home(lake_home):
    """Keeps what is known of archives out of the user's home."""


def lines(rows: Iterable[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows: list[dict], delimiter: str = ",") -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def test_google_analytics_reaches_event_params_and_explodes_items(tmp_path: Path):
    def row(n: int, day: int) -> dict:
        items = [
            {"item_id": f"SKU_{n % 9 + k}", "price": 10.5 + k, "coupon": "(not set)"}
            for k in range(2 * (n % 2))
        ]
        params = [
            {"key": "page_location", "value": {"string_value": f"https://a.example/{n % 7}"}},
            {"key": "ga_session_id", "value": {"int_value": str(900 + n % 4)}},
        ]
        known = {"user_id": f"c{n % 5}"} if n % 3 == 0 else {}
        return known | {
            "event_date": f"2026010{day}",
            "event_timestamp": str((EPOCH + (day - 5) * 86400 + n * 60) * 10**6),
            "event_name": ["page_view", "add_to_cart"][n % 2],
            "event_params": params,
            "event_server_timestamp_offset": "12345",
            "user_pseudo_id": f"10000{n % 6}.1767000{n % 6}",
            "user_first_touch_timestamp": str((EPOCH - 9999) * 10**6),
            "geo": {"country": ["Germany", "Austria"][n % 2], "city": "(not set)"},
            "items": items,
        }

    for day in (5, 6):
        rows = [row(n, day) for n in range(40)]
        put(tmp_path / f"events_2026010{day}/000000000000.json", lines(rows))
    made = drafted(tmp_path / "events_20260105/000000000000.json")
    assert made.dataset.landing.url == "events_{year}{month}{day}/*.json"
    # The sample is of one file or of all.
    assert (made.files, made.rows % 60, made.refused) == (2, 0, 0)
    expected = {
        "user_id": "c0",
        "timestamp": "2026-01-05T00:00:00+00:00",
        "action": "page_view",
        "item_id": None,
        "session_id": "c0-900",
        "page_location": "https://a.example/0",
        "country": "Germany",
    }
    assert made.first(**expected) == expected
    second = [e for e in made.events if (e["source_line"], e["day"].day) == (2, 5)]
    assert [(e["item_id"], e["value"]) for e in second] == [("SKU_1", 10.5), ("SKU_2", 11.5)]
    assert {event["user_id"] for event in second} == {"100001.17670001"}
    assert "a row becomes an event for each element of items: right?" in made.todos
    assert "geo.city" in made.comments


def test_segment_takes_the_time_of_the_event_and_the_folder_of_the_day(tmp_path: Path):
    rows = [
        {
            "anonymousId": f"a{n % 9}",
            "context": {"page": {"path": "/p", "url": "https://a.example/p"}, "ip": "192.0.2.1"},
            "messageId": f"ajs-next-{n}-069076ac-8368",
            "receivedAt": f"2026-01-05T00:{n % 60:02}:10.709Z",
            "sentAt": f"2026-01-05T00:{n % 60:02}:09.709Z",
            "timestamp": f"2026-01-05T00:{n % 60:02}:08.709Z",
            "type": ["track", "page"][n % 2],
            "userId": None if n % 5 == 1 else f"c{n % 7}",
            **({"event": "Product Viewed"} if n % 2 == 0 else {}),
            "properties": {"product_id": f"P-{n % 8}", "price": 31.5} if n % 2 == 0 else {},
        }
        for n in range(40)
    ]
    folder = tmp_path / "segment-logs" / "src"
    for day in (0, 1):
        path = folder / str((EPOCH + day * 86400) * 1000) / f"17676{day}.gz"
        put(path, gzip.compress(lines(rows).encode()))
    made = drafted(folder / str(EPOCH * 1000) / "176760.gz")
    assert made.dataset.landing.url.endswith("{epoch_ms}/*.gz")
    assert (made.files, made.rows % 40, made.refused) == (2, 0, 0)
    expected = {
        "event_id": "ajs-next-0-069076ac-8368",
        "user_id": "c0",
        "timestamp": "2026-01-05T00:00:08.709000+00:00",
        "action": "product_viewed",
        "item_id": "P-0",
        "value": 31.5,
    }
    assert made.first(**expected) == expected
    assert (made.events[1]["user_id"], made.events[1]["action"]) == ("a1", "page")
    assert "8 of 40 rows have no userId and are taken for the user anonymousId" in made.todos


def test_mixpanel_looks_into_properties(tmp_path: Path):
    rows = [
        {
            "event": ["Page View", "$mp_web_page_view"][n % 2],
            "properties": {
                "time": EPOCH + n,
                "distinct_id": f"c{n % 7}",
                "$insert_id": f"08cf23a8-e22b-{n:02}",
                "mp_processing_time_ms": EPOCH * 1000 + n,
                "Item": f"I{n % 9}",
                "Price": 15.5,
                "tags": ["a"],
            },
        }
        for n in range(40)
    ]
    made = drafted(put(tmp_path / "export.jsonl", lines(rows)))
    expected = {
        "event_id": "08cf23a8-e22b-00",
        "user_id": "c0",
        "timestamp": "2026-01-05T00:00:00+00:00",
        "action": "page_view",
        "item_id": "I0",
        "value": 15.5,
    }
    assert (made.rows, made.refused, made.todos) == (40, 0, ASKS)
    assert made.first(**expected) == expected
    assert made.dataset.actions == ["mp_web_page_view", "page_view"]
    assert "properties.tags" in made.comments


def test_amplitude_is_read_from_its_zip_with_hours_of_one_digit(tmp_path: Path):
    def row(hour: int, n: int) -> dict:
        at = f"2026-01-05 {hour:02}:{n:02}:21.767000"
        return {
            "$insert_id": f"940d741e-1632-4925-{hour:02}{n:02}",
            "device_id": f"4e163bdd-{n % 3}",
            "event_id": n,
            "event_properties": {"item": f"I{n}", "price": 23.5},
            "event_time": at,
            "event_type": "Add",
            "server_received_time": at,
            "session_id": (EPOCH - 60) * 1000,
            "user_id": f"c{n % 4}" if n else None,
        }

    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for hour in (0, 7, 10, 23):
            packed = gzip.compress(lines(row(hour, n) for n in range(9)).encode())
            archive.writestr(f"123456/123456_2026-01-05_{hour}#1.json.gz", packed)
    made = drafted(tmp_path / "export.zip")
    url = "export.zip/123456/123456_{year}-{month}-{day}_{hour}#*.json.gz"
    assert made.dataset.landing.url == url
    assert (made.files, made.rows % 9, made.refused) == (4, 0, 0)
    expected = {
        "event_id": "940d741e-1632-4925-0000",
        "user_id": "4e163bdd-0",
        "timestamp": "2026-01-05T00:00:21.767000+00:00",
        "action": "add",
        "item_id": "I0",
        "value": 23.5,
    }
    assert made.first(**expected) == expected
    assert "no zone is given" in made.todos


def test_matomo_visits_explode_into_their_actions(tmp_path: Path):
    visits = [
        {
            "idVisit": str(1000 + n),
            "visitorId": f"00000000000000{n % 9}f",
            "userId": None if n % 3 == 1 else f"c{n % 5}",
            "serverTimestamp": EPOCH + n * 600,
            "actionDetails": [
                {
                    "type": "action",
                    "url": f"https://a.example/{k}",
                    "timestamp": EPOCH + n * 600 + k,
                }
                for k in range(3)
            ],
        }
        for n in range(20)
        for at in [EPOCH + n * 600]
    ]
    made = drafted(put(tmp_path / "visits.json", json.dumps(visits, indent=1)))
    assert (made.rows, made.refused) == (60, 0)
    expected = {
        "event_id": "1000-1",
        "user_id": "c0",
        "timestamp": "2026-01-05T00:00:00+00:00",
        "item_id": "https://a.example/0",
        "session_id": "1000",
    }
    assert made.first(**expected) == expected
    assert [e["timestamp"].second for e in made.events[:3]] == [0, 1, 2]
    assert made.events[3]["user_id"] == "000000000000001f"


def test_shopify_orders_are_purchases_of_their_line_items(tmp_path: Path):
    rows = [
        {
            "Name": f"#{1001 + n // 2}",
            "Email": f"c{n % 7}@a.example",
            "Paid at": "" if n % 2 else "2026-01-05 01:30:00 +0100",
            "Total": "" if n % 2 else "24.00",
            "Created at": f"2026-01-05 01:{n:02}:59 +0100",
            "Lineitem quantity": n % 3 + 1,
            "Lineitem name": f'Thing {n} - 21" / "L", blue',
            "Lineitem price": f"{n}.50",
            "Lineitem compare at price": "",
            "Lineitem sku": f"SKU-{n % 8}",
            "Billing Street": "A\nB" if n % 2 else "C",
            "Id": "" if n % 2 else str(500 + n),
        }
        for n in range(40)
    ]
    made = drafted(put(tmp_path / "orders_export_1.csv", table(rows)))
    expected = {
        "user_id": "c0@a.example",
        "timestamp": "2026-01-05T00:00:59+00:00",
        "action": "purchase",
        "item_id": "SKU-0",
        "value": 0.5,
    }
    assert (made.rows, made.refused) == (40, 0)
    assert made.first(**expected) == expected
    assert made.todos == f"# TODO: rows look like one purchase each: is each one?\n{ASKS}"


def test_posthog_csv_with_json_in_a_column(tmp_path: Path):
    rows = [
        {
            "uuid": f"0190a5b2-7c1e-7000-8000-0000000000{n:02}",
            "event": ["$pageview", "order placed"][n % 2],
            "properties": json.dumps(
                {"$current_url": f"https://a.example/{n % 6}", "$session_id": f"s{n // 5}"}
                | ({"amount": 12.5} if n % 2 else {})
            ),
            "timestamp": f"2026-01-05 10:{n:02}:00.123000+00:00",
            "distinct_id": f"u{n % 7}",
            "created_at": "2026-01-05 11:00:00.000000+00:00",
        }
        for n in range(40)
    ]
    made = drafted(put(tmp_path / "events.csv", table(rows)))
    expected = {
        "event_id": "0190a5b2-7c1e-7000-8000-000000000000",
        "user_id": "u0",
        "timestamp": "2026-01-05T10:00:00.123000+00:00",
        "action": "pageview",
        "item_id": "https://a.example/0",
        "value": None,
        "session_id": "s0",
    }
    assert (made.rows, made.refused) == (40, 0)
    assert {**made.first(**expected), "session_id": "s0"} == expected
    assert made.events[0]["session_id"].endswith("s0")
    assert (made.events[1]["action"], made.events[1]["value"]) == ("order_placed", 12.5)


def test_stripe_charges_are_payments_of_customers(tmp_path: Path):
    charges = [
        {
            "id": f"ch_3MmlLrLkdIwHu7ix0snN0B{n:02}",
            "object": "charge",
            "amount": 1099 + n,
            "amount_refunded": 0,
            "billing_details": {"email": None, "address": {"country": "DE"}},
            "created": EPOCH + n * 60,
            "currency": "eur",
            "customer": f"cus_{n % 6}",
            "description": None,
            "paid": True,
            "payment_method_details": {"type": "card", "card": {"brand": ["visa", "amex"][n % 2]}},
        }
        for n in range(30)
    ]
    wrapped = {"object": "list", "url": "/v1/charges", "has_more": False, "data": charges}
    made = drafted(put(tmp_path / "charges.json", json.dumps(wrapped)))
    expected = {
        "event_id": "ch_3MmlLrLkdIwHu7ix0snN0B00",
        "user_id": "cus_0",
        "timestamp": "2026-01-05T00:00:00+00:00",
        "action": "charge",
        "value": 1099.0,
        "brand": "visa",
    }
    assert (made.rows, made.refused) == (30, 0)
    assert made.first(**expected) == expected


def test_woocommerce_orders_of_guests_are_those_of_their_mail(tmp_path: Path):
    rows = [
        {
            "order_id": 700 + n // 2,
            "order_date": f"2026-01-05 08:{n:02}:00",
            "status": ["completed", "processing"][n % 2],
            "customer_id": 0 if n % 3 == 0 else n % 5 + 10,
            "billing_email": f"c{n % 7}@a.example",
            "item_product_id": n % 8 + 200,
            "item_name": f"Mug {n % 8}",
            "item_quantity": 1,
            "item_total": f"1.{n:03},50",
            "order_discount": "0,00",
        }
        for n in range(40)
    ]
    made = drafted(put(tmp_path / "orders.csv", table(rows, ";")))
    expected = {
        "user_id": "c0@a.example",
        "timestamp": "2026-01-05T08:00:00+00:00",
        "action": "purchase",
        "item_id": "200",
        "value": 1000.5,
    }
    assert (made.rows, made.refused) == (40, 0)
    assert made.first(**expected) == expected
    assert made.events[1]["user_id"] == "11"


def test_a_dump_of_a_message_queue_holds_events_as_text(tmp_path: Path):
    rows = [
        {
            "topic": "clicks",
            "partition": n % 3,
            "offset": n,
            "timestamp": (EPOCH + 5) * 1000,
            "value": json.dumps(
                {"event_id": f"e{n}", "user": {"id": f"u{n % 5}"}, "ts": EPOCH + n, "type": "view"}
            ),
        }
        for n in range(30)
    ]
    made = drafted(put(tmp_path / "dump.jsonl", lines(rows)))
    expected = {"event_id": "e0", "user_id": "u0", "action": "view"}
    assert (made.rows, made.refused) == (30, 0)
    assert made.first(**expected) == expected


def test_a_log_of_a_web_server_names_its_fields_in_a_comment(tmp_path: Path):
    head = "#Version: 1.0\n#Fields: date time x-edge-location c-ip cs-uri-stem sc-status\n"
    rows = [f"2026-01-05\t08:{n:02}:07\tFRA1\t192.0.2.{n % 4}\t/p/{n % 6}\t200" for n in range(30)]
    made = drafted(put(tmp_path / "E123.log", head + "\n".join(rows) + "\n"))
    expected = {
        "user_id": "192.0.2.0",
        "timestamp": "2026-01-05T08:00:07+00:00",
        "item_id": "/p/0",
    }
    assert (made.rows, made.refused, made.dataset.landing.csv.comment) == (30, 0, "#")
    assert made.first(**expected) == expected


def test_parts_of_a_time_in_columns_of_their_own_are_one_instant(tmp_path: Path):
    rows = [f"2026.0,1.0,{n % 28 + 1}.0,9,u{n % 5},i{n}" for n in range(40)]
    made = drafted(
        put(tmp_path / "clicks.csv", "year,month,day,hour,user_id,item\n" + "\n".join(rows))
    )
    expected = {"user_id": "u0", "timestamp": "2026-01-01T09:00:00+00:00", "item_id": "i0"}
    assert (made.rows, made.refused) == (40, 0)
    assert made.first(**expected) == expected
