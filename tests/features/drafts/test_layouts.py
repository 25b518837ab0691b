"""Headers, dialects, encodings and JSON layouts are found, or one sentence says what a file is."""

import json
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from features.drafts.drafting import draft
from features.drafts.source.known_columns import SNOWPLOW
from tests.builders.drafts import drafted, put

ROWS = [f"e{n},u{n % 5},{1767607200 + n * 60},view,i{n % 9}" for n in range(40)]
BODY = "\n".join(ROWS) + "\n"
FIRST = {
    "event_id": "e0",
    "user_id": "u0",
    "timestamp": "2026-01-05T10:00:00+00:00",
    "action": "view",
    "item_id": "i0",
}


@pytest.fixture(autouse=True)
def home(lake_home):
    """Keeps what is known of archives out of the user's home."""


def indexed(body: str) -> str:
    return "".join(f"{n},{line}\n" for n, line in enumerate(body.splitlines()))


@pytest.mark.parametrize(
    ("text", "odd"),
    [
        (f",id,user_id,ts,event,item\n{indexed(BODY)}", {}),
        ("sep=;\n" + f"id,user_id,ts,event,item\n{BODY}".replace(",", ";"), {"delimiter": ";"}),
        (f"# by tool X\n# rows: 40\nid,user_id,ts,event,item\n{BODY}", {"comment": "#"}),
        (f"Report of clicks\nJanuary\n\nid,user_id,ts,event,item\n{BODY}", {"skip": 3}),
        (f"$id,$user_id,$ts,$event,$item\n{BODY}", {}),
        (f"#id,user_id,ts,event,item\n{BODY}", {}),
        (f"编号,用户,时间,事件,商品\n{BODY}", {}),
        ("id,user_id,ts,event,item,\n" + BODY.replace("\n", ",\n"), {}),
        (f"id,user_id,ts,event,item\n{BODY}".replace(",", "\x01"), {"delimiter": "\x01"}),
        ("'id'\t'user_id'\t'ts'\t'event'\t'item'\n'"
         + BODY.strip().replace(",", "'\t'").replace("\n", "'\n'") + "'\n",
         {"delimiter": "\t", "quote": "'"}),
        ("id,user_id,ts,event,item,note\n" + BODY.replace("\n", r',"a \"b\", c"' + "\n"),
         {"escape": "\\"}),
    ],
    ids=["pandas", "sep", "comment", "title", "dollar", "hash", "cjk", "tail", "ctrl-a", "quotes",
         "escape"],
)  # fmt: skip
def test_headers_and_dialects_are_found(tmp_path: Path, text: str, odd: dict):
    made = drafted(put(tmp_path / "t.csv", text))
    assert (made.rows, made.refused) == (40, 0)
    assert made.first(**FIRST) == FIRST
    default = {"header": True, "quote": '"', "delimiter": ",", "escape": "", "comment": ""}
    found = made.dataset.landing.csv.model_dump()
    assert {key: found[key] for key in {**default, **odd}} == {**default, **odd}


@pytest.mark.parametrize("title", ["a\\\tb", "a\\tb"], ids=["mysql", "postgresql"])
def test_dumps_of_databases_are_read_with_their_escapes_and_nulls(tmp_path: Path, title: str):
    users = ["\\N" if n % 4 == 0 else f"u{n % 4}" for n in range(40)]
    lines = [
        f"e{n}\t{users[n]}\t2026-01-05 08:{n:02}:00\tview\t{title}{n % 3}\ti{n % 9}"
        for n in range(40)
    ]
    made = drafted(put(tmp_path / "t.tsv", "\n".join(lines) + "\n"))
    csv = made.dataset.landing.csv
    assert (csv.quote, csv.escape, made.dataset.landing.nulls) == ("", "\\", [])
    assert (made.rows, made.refused) == (40, 0)
    events = made.events
    assert sum(event["user_id"] is None for event in events) == 10
    assert {dict(event["properties"])["c_5"] for event in events} == {"a\tb0", "a\tb1", "a\tb2"}


def test_a_name_that_is_there_twice_is_not_read_and_told(tmp_path: Path):
    body = BODY.replace("\n", ",1,2\n")
    made = drafted(put(tmp_path / "t.csv", f"id,user_id,ts,event,item,price,price\n{body}"))
    assert made.refused == 0
    assert "not read: price is there twice" in made.todos


def test_names_that_differ_in_the_size_of_letters_are_told(tmp_path: Path):
    rows = [{"user": f"u{n % 3}", "ts": 1767607200 + n, "price": n} for n in range(20)]
    rows[3]["Price"] = 5
    made = drafted(put(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows))))
    assert made.refused == 0
    assert made.events[1]["value"] == 1.0
    assert "not read: Price is another column in small letters" in made.todos


def test_no_value_of_a_row_is_dropped_without_a_word(tmp_path: Path):
    row = {
        "user": "u1", "ts": 1767607200, "empty": None, "list": [1], "same": "x",
        "nested": {"a": {"b": {"c": "y"}}, 'q"uote': 1, "none": None}, "objects": [{"k": "v"}],
        "deep": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, "": 3,
    }  # fmt: skip
    rows = [row | {"user": f"u{n % 3}", "code": n} for n in range(20)]
    text = drafted(put(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))).text
    for label in ("empty", "list", "same", "nested.a.b.c", 'nested.q"uote', "nested.none",
                  "objects", "deep.a.b.c.d.e", "code", "a column has no name"):  # fmt: skip
        assert label in text, label


def test_titles_that_begin_with_a_quote_and_long_fields_lose_no_row(tmp_path: Path):
    titles = ['"21 inch" monitor' if n % 9 == 0 else "t" for n in range(40)]
    titles[5] = '"never closed'
    rows = [f"{row}\t{t}".replace(",", "\t") for row, t in zip(ROWS, titles, strict=True)]
    rows[7] += "x" * 200_000
    made = drafted(
        put(tmp_path / "t.tsv", "id\tuser_id\tts\tevent\titem\ttitle\n" + "\n".join(rows))
    )
    assert (made.rows, made.refused, made.dataset.landing.csv.quote) == (40, 0, "")
    assert "from all 40 rows" in made.text


def test_a_huge_json_object_and_many_columns_are_drafted(tmp_path: Path):
    big = [
        {
            "id": f"e{n}",
            "user_id": f"u{n % 3}",
            "ts": 1767607200 + n,
            "html": "x" * (n == 3) * 524_000,
        }
        for n, size in enumerate([1, 1, 524_000, *[1] * 17])
    ]
    made = drafted(put(tmp_path / "a" / "o.jsonl", "\n".join(map(json.dumps, big))))
    assert (made.rows, made.refused) == (20, 0)
    many = [f"column_number_{n}" for n in range(400)]
    rows = "".join(f"u{n % 3},{1767607200 + n}{',' * len(many)}\n" for n in range(9))
    made = drafted(put(tmp_path / "b" / "w.csv", ",".join(["user", "ts", *many]) + "\n" + rows))
    assert (made.rows, made.refused) == (9, 0)
    assert all(column in made.comments for column in many)


@pytest.mark.parametrize(
    ("encoding", "name", "told"),
    [
        ("cp1252", "Zoë „L“ – 5 €", "is read as cp1252"),
        ("cp932", "利用者ポ", "is read as cp932"),
        ("utf-16", "Größe „L“", ""),
        ("utf-8-sig", "Größe „L“", ""),
    ],
)
def test_encodings_are_told_apart(tmp_path: Path, encoding: str, name: str, told: str):
    rows = "".join(f"{name}{n % 5};05.01.2026 08:{n:02};view;{n},50\n" for n in range(40))
    text = f"user;ts;event;price\n{rows}"
    made = drafted(put(tmp_path / "t.csv", text.encode(encoding)))
    assert (made.rows, made.refused) == (40, 0)
    assert (made.events[1]["user_id"], made.events[1]["value"]) == (f"{name}1", 1.5)
    assert told in made.todos


@pytest.mark.parametrize("user", ["Zoë", "u1"])
def test_one_bad_line_does_not_make_another_encoding(tmp_path: Path, user: str):
    text = "id,user_id,ts,event,item\n" + BODY.replace("u1", user)
    made = drafted(put(tmp_path / "t.csv", text.encode() + b"e99,Zo\xeb,1767607200,view,i1\n"))
    assert (made.rows, made.refused, made.dataset.landing.csv.encoding) == (41, 1, "utf-8")
    assert "the first is line 42) and are refused" in made.todos


OBJECTS = [
    dict(zip(("id", "user_id", "ts", "event", "item"), r.split(","), strict=True)) for r in ROWS
]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(OBJECTS),
        json.dumps(OBJECTS, indent=1),
        "".join(json.dumps(each, indent=1) + "\n" for each in OBJECTS),
        json.dumps({"data": OBJECTS}),
    ],
    ids=["array", "indented", "pretty", "wrapped"],
)
def test_json_is_read_however_it_lies_in_the_file(tmp_path: Path, text: str):
    made = drafted(put(tmp_path / "t.json", text))
    assert (made.rows, made.refused) == (40, 0)
    assert made.first(**FIRST) == FIRST


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('["e0", "u0", 5]\n["e1", "u1", 6]\n', "has a JSON array a line, which gives no names"),
        ('ts=5 user=u0 act=view msg="a b"\n' * 9, r"key=value pairs \(logfmt\)"),
        ("e0      u0        2026-01-05\n" * 9, "columns at fixed places"),
        (BODY.replace("\n", "\r"), "ends its lines with CR alone"),
        ("<?xml version='1.0'?><a><b/></a>\n", "is XML or HTML"),
        ("Obj\x01\x04", "is Avro"),
        ("PAR1 and no more", "is damaged"),
    ],
)
def test_what_is_no_table_is_said_in_one_sentence(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(FootpathError, match=sentence):
        draft(str(put(tmp_path / "t.txt", text)), "mine")


def test_rows_that_do_not_fit_are_counted(tmp_path: Path):
    body = BODY.replace("view,i3\n", "view,i3,extra\n") + "\nSummary\nrows,40\n"
    made = drafted(put(tmp_path / "t.csv", f"id,user_id,ts,event,item\n{body}"))
    assert (made.rows, made.refused) == (42, 7)
    assert "7 of 42 rows cannot be read and are refused (line 5: 6 columns" in made.todos


def test_codes_stay_text_and_words_for_none_are_proposed(tmp_path: Path):
    rows = "".join(
        f"00{n % 7},{1767607200 + n},1_{n % 3},{('12.0', '13.0')[n % 2]},{('n/a', '1.5')[n % 2]}\n"
        for n in range(40)
    )
    made = drafted(put(tmp_path / "t.csv", f"user,ts,slot,item_id,price\n{rows}"))
    expected = {"user_id": "001", "slot": "1_1", "item_id": "13", "value": 1.5}
    assert {**made.events[1], **dict(made.events[1]["properties"])} | expected == {
        **made.events[1],
        **dict(made.events[1]["properties"]),
    }
    assert made.events[0]["value"] is None
    assert made.dataset.landing.nulls == ["n/a"]
    assert "these words mean none" in made.todos


def test_actions_without_an_ascii_letter_get_names_and_none_is_lost(tmp_path: Path):
    texts = ["View Item", "VIEW ITEM", "查看", "购买", "123", "a" * 60, "a" * 59 + "b", "$pageview"]
    rows = "".join(f"u{n % 3},{1767607200 + n},{texts[n % 8]}\n" for n in range(80))
    made = drafted(put(tmp_path / "t.csv", f"user,ts,event\n{rows}"))
    found = {texts[n]: made.events[n]["action"] for n in range(8)}
    assert found["View Item"] == found["VIEW ITEM"] == "view_item"
    assert found["$pageview"] == "pageview"
    assert len(set(found.values())) == 7
    assert None not in found.values()
    assert set(found.values()) == set(made.dataset.actions)
    assert "'123' is action_123" in made.todos


def test_names_that_reading_uses_are_left_out_and_told(tmp_path: Path):
    rows = "".join(f"u{n % 3},{1767607200 + n},x,p{n % 4},q{n % 2}\n" for n in range(40))
    made = drafted(put(tmp_path / "t.csv", f"user,time,__file,place,each\n{rows}"))
    assert made.refused == 0
    assert "__file has a name that reading itself uses" in made.todos
    assert dict(made.events[0]["properties"]) == {"place": "p0", "each": "q0"}


def snowplow(number: int, **cells: str) -> str:
    """A line of an enriched event."""
    instant = f"2026-01-05 10:{number:02}:00.123"
    given = {
        "app_id": "shop", "platform": "web", "etl_tstamp": f"2026-01-05 11:{number:02}:00.000",
        "collector_tstamp": instant, "dvce_created_tstamp": instant, "event": "page_view",
        "event_id": f"c6ef3124-b53a-4b13-a233-{number:012}", "v_tracker": "js-3.1.0",
        "user_id": f"u{number % 5}", "domain_userid": f"d{number % 7}", "domain_sessionidx": "1",
        "page_url": f"https://shop.example/p/{number % 9}", "useragent": "Mozilla/5.0",
        "contexts": '{"schema":"iglu:x","data":[{"a":"b"}]}', "derived_tstamp": instant,
        "domain_sessionid": f"0a1b2c3d-0000-4000-8000-{number % 6:012}", "event_name": "page_view",
    } | cells  # fmt: skip
    return "\t".join(given.get(column, "") for column in SNOWPLOW)


def test_columns_of_a_tool_that_writes_no_header_are_known(tmp_path: Path):
    lines = [snowplow(number) for number in range(40)]
    made = drafted(put(tmp_path / "enriched.tsv", "\n".join(lines) + "\n"))
    assert (len(SNOWPLOW), made.rows, made.refused) == (131, 40, 0)
    assert made.first(event_id="", user_id="", timestamp="", action="") == {
        "event_id": "c6ef3124-b53a-4b13-a233-000000000000",
        "user_id": "u0",
        "timestamp": "2026-01-05T10:00:00.123000+00:00",
        "action": "page_view",
    }
    other = [snowplow(number, event_id=f"{number}") for number in range(40)]
    made = drafted(put(tmp_path / "other.tsv", "\n".join(other) + "\n"), "other")
    assert "there is no header" in made.text
