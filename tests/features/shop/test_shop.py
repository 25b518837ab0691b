"""The files of the synthetic shop hold exactly what its truth says."""

import collections
import datetime as dt
import gzip
import itertools
import json
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest

from contracts.config.dataset import load_dataset
from features.shop import ShopTruth, generate_shop

BERLIN = ZoneInfo("Europe/Berlin")
ACTIONS = {"search", "view", "add_to_cart", "purchase"}


class Landed:
    """Every line of a shop's landing files, read as a stranger would."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lines: list[tuple[str, bytes]] = []  # file, line
        for path in sorted(folder.glob("events/*/*.jsonl.gz")):
            name = str(path.relative_to(folder))
            self.lines += [(name, line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        self.broken: collections.Counter[str] = collections.Counter()
        self.events: dict[str, dict] = {}  # by id, the well-formed
        self.deliveries: dict[str, list[tuple[str, bytes]]] = collections.defaultdict(list)
        for name, line in self.lines:
            self._read(name, line)

    def _read(self, name: str, line: bytes) -> None:
        fault, row = judge(line)
        if fault:
            self.broken[fault] += 1
        else:
            self.events[row["id"]] = row
            self.deliveries[row["id"]].append((name, line))

    @property
    def repeats(self) -> int:
        return sum(len(copies) - 1 for copies in self.deliveries.values())

    @property
    def late(self) -> set[str]:
        """Events whose first delivery lies in a file that begins an hour or more after them."""
        hour = dt.timedelta(hours=1)
        first = {key: min(name for name, _ in copies) for key, copies in self.deliveries.items()}
        return {k for k, row in self.events.items() if arrival(first[k]) - instant(row) >= hour}


def judge(line: bytes) -> tuple[str | None, dict]:
    """Says what is wrong with a line, if anything, knowing only the data set's YAML."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return "not_json", {}
    try:
        instant(row)
    except (TypeError, ValueError):
        return "bad_timestamp", row
    if row["user"] is None:
        return "missing_user", row
    if row["type"] not in ACTIONS:
        return "unknown_action", row
    if row.get("price", 0) < 0:
        return "negative_price", row
    return None, row


def instant(row: dict) -> dt.datetime:
    return dt.datetime.fromisoformat(row["ts"])


def arrival(name: str) -> dt.datetime:
    """The UTC hour in which a file arrived."""
    return dt.datetime.strptime(name, "events/%Y-%m-%d/%H.jsonl.gz").replace(tzinfo=dt.UTC)


def make(folder: Path, **changes) -> tuple[Landed, ShopTruth]:
    truth = generate_shop(folder, **{"users": 600, "days": 10, "seed": 3, **changes})
    return Landed(folder), truth


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Landed, ShopTruth]:
    return make(tmp_path_factory.mktemp("landing") / "shop")


def test_truth_counts_every_line_of_every_file(shop):
    landed, truth = shop
    assert collections.Counter(name for name, _ in landed.lines) == truth.files
    assert len(landed.lines) == truth.lines
    assert truth.lines == truth.events + truth.repeated + sum(truth.malformed.values())


def test_truth_counts_events_and_malformed_rows_by_kind(shop):
    landed, truth = shop
    assert len(landed.events) == truth.events > 5_000
    assert landed.broken == truth.malformed
    assert all(truth.malformed.values()), "a kind that never occurs tests nothing"


def test_a_repeated_delivery_is_the_same_bytes(shop):
    landed, truth = shop
    assert landed.repeats == truth.repeated > 0
    for copies in landed.deliveries.values():
        assert len({line for _, line in copies}) == 1
    in_later_files = sum(len({name for name, _ in c}) > 1 for c in landed.deliveries.values())
    assert 0 < in_later_files < truth.repeated, "some repeats share a file, others do not"


def test_truth_counts_late_events_and_they_come_within_two_days(shop):
    landed, truth = shop
    assert len(landed.late) == truth.late > 0
    for key in landed.late:
        (name, _), *others = landed.deliveries[key]
        assert not others
        assert arrival(name) - instant(landed.events[key]) <= dt.timedelta(hours=46)


def test_truth_counts_what_each_event_day_holds(shop):
    landed, truth = shop
    found = {day: collections.Counter() for day in truth.by_day}
    for row in landed.events.values():
        found[local_day(row)]["events"] += 1
    for copies in landed.deliveries.values():
        found[local_day(json.loads(copies[0][1]))]["repeated"] += len(copies) - 1
    for _, line in landed.lines:
        fault, row = judge(line)
        if fault and fault not in ("not_json", "bad_timestamp"):
            found[local_day(row)]["malformed"] += 1
    assert found == {day: collections.Counter(told) for day, told in truth.by_day.items()}


def test_truth_names_the_bots_and_counts_their_events(shop):
    landed, truth = shop
    assert truth.bots
    by_bots = sum(row["user"] in truth.bots for row in landed.events.values())
    assert by_bots == truth.bot_events > 0


def test_a_bot_fills_whole_days_and_a_person_does_not(shop):
    landed, truth = shop
    by_user: dict[str, list[dt.datetime]] = collections.defaultdict(list)
    for row in landed.events.values():
        by_user[row["user"]].append(instant(row))
    filled = {user for user, times in by_user.items() if longest_run(times) > dt.timedelta(days=2)}
    assert filled == set(truth.bots)


def longest_run(times: list[dt.datetime]) -> dt.timedelta:
    """The longest stretch without a gap above 30 minutes."""
    times = sorted(times)
    longest, begin = dt.timedelta(), times[0]
    for before, after in itertools.pairwise(times):
        if after - before > dt.timedelta(minutes=30):
            begin = after
        longest = max(longest, after - begin)
    return longest


def test_fates_are_drawn_at_the_promised_rates(tmp_path):
    truth = generate_shop(tmp_path / "shop", users=3000, days=20)
    drawn = truth.events + sum(truth.malformed.values())
    found = {"repeated": truth.repeated, "late": truth.late, **truth.malformed}
    assert found.keys() == truth.rates.keys()
    for kind, rate in truth.rates.items():
        # Late events of the last two days come on time instead: at most a tenth of them here.
        slack = 0.1 * rate * drawn if kind == "late" else 0
        assert abs(found[kind] - rate * drawn) < 4.5 * (rate * drawn) ** 0.5 + slack, kind


@pytest.mark.parametrize("start", [dt.date(2026, 3, 27), dt.date(2026, 10, 23)])
def test_every_event_lies_in_the_shops_days_also_where_the_clocks_change(tmp_path, start):
    landed, truth = make(tmp_path / "shop", users=300, days=4, start=start)
    days = {instant(row).astimezone(BERLIN).date() for row in landed.events.values()}
    assert days == {start + dt.timedelta(days=n) for n in range(4)} == dates(truth)
    for row in landed.events.values():
        here = instant(row)
        assert here.utcoffset() == here.astimezone(BERLIN).utcoffset()


def dates(truth: ShopTruth) -> set[dt.date]:
    return {dt.date.fromisoformat(day) for day in truth.by_day}


def local_day(row: dict) -> str:
    return instant(row).astimezone(BERLIN).date().isoformat()


def test_nothing_arrives_before_it_happened_or_after_the_last_day(shop):
    landed, truth = shop
    end = dt.datetime.combine(max(dates(truth)), dt.time(), BERLIN) + dt.timedelta(days=1)
    for key, copies in landed.deliveries.items():
        for name, _ in copies:
            assert arrival(name) + dt.timedelta(hours=1) > instant(landed.events[key])
    assert max(arrival(name) for name in truth.files) < end


def test_the_files_fit_the_data_sets_description(shop):
    landed, truth = shop
    dataset = load_dataset("shop")
    assert {key for row in landed.events.values() for key in row} <= set(dataset.landing.columns)
    assert {row["type"] for row in landed.events.values()} == set(dataset.actions)
    for table, rows in ((dataset.items, truth.items), (dataset.users, truth.users)):
        assert table
        path = landed.folder / table.url
        query = "SELECT * FROM read_csv(?, header = true, columns = ?)"
        found = duckdb.execute(query, [str(path), table.columns]).fetchall()
        assert len({row[0] for row in found}) == len(found) == rows
        assert not any(value is None for row in found for value in row)


def test_each_action_carries_what_belongs_to_it(shop):
    landed, _ = shop
    prices = dict(
        duckdb.execute(
            "SELECT item, price FROM read_csv(?)", [str(landed.folder / "items.csv")]
        ).fetchall()
    )
    for row in landed.events.values():
        if row["type"] == "search":
            assert row["query"]
            assert "item" not in row
        else:
            assert row["item"] in prices
        assert ("price" in row) == (row["type"] == "purchase")
        assert row.get("price") in (None, prices.get(row.get("item")))


def test_what_is_bought_was_put_into_the_cart_and_viewed_just_before(shop):
    landed, _ = shop
    streams: dict[str, list[dict]] = collections.defaultdict(list)
    for row in sorted(landed.events.values(), key=lambda row: (instant(row), row["id"])):
        streams[row["user"]].append(row)
    bought = seen = 0
    for stream in streams.values():
        for place, row in enumerate(stream):
            if row["type"] == "purchase":
                bought += 1
                before = {(r["type"], r.get("item")) for r in stream[max(0, place - 10) : place]}
                seen += {("view", row["item"]), ("add_to_cart", row["item"])} <= before
    assert seen / bought > 0.95, "all but those whose cart was lost as a malformed row"


def test_truth_json_is_what_is_returned(shop):
    landed, truth = shop
    assert ShopTruth.read(landed.folder) == truth
