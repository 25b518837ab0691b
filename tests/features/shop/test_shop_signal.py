"""The synthetic shop is believable: rhythms, tails, and signals of realistic strength."""

from pathlib import Path

import duckdb
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from features.shop import generate_shop
from features.shop.population import make_population

DAYS, HORIZON = 49, 7


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """A shop of 2,000 users as a table of people's events, with categories and users beside it."""
    folder = tmp_path_factory.mktemp("landing") / "shop"
    truth = generate_shop(folder, users=2000, days=DAYS)
    return load(folder, truth.bots)


def load(folder: Path, bots: list[str]) -> duckdb.DuckDBPyConnection:
    log = duckdb.connect()
    log.execute("SET TimeZone = 'Europe/Berlin'")
    log.execute(f"CREATE TABLE items AS FROM read_csv('{folder}/items.csv')")
    log.execute(f"CREATE TABLE users AS FROM read_csv('{folder}/users.csv')")
    columns = dict.fromkeys(("id", "user", "ts", "type", "item", "query", "device"), "VARCHAR")
    log.execute(
        f"""
        CREATE TABLE events AS
        SELECT DISTINCT ON (id) id, "user", try_cast(ts AS timestamptz) AS t, type, item, category,
               (t::DATE - DATE '2026-01-01')::INT AS day
        FROM read_json('{folder}/events/*/*.jsonl.gz', format = 'newline_delimited',
                       ignore_errors = true, columns = {columns})
        LEFT JOIN items USING (item)
        WHERE t IS NOT NULL AND "user" NOT IN (SELECT unnest(?))
        """,
        [bots],
    )
    return log


def category_shares(log: duckdb.DuckDBPyConnection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of views by category of users with 20 views or more: [U, 20], women bool[U], ages."""
    rows = log.execute(
        """
        SELECT gender = 'F', age, [coalesce(seen[category], 0) FOR category IN categories]
        FROM (
            SELECT "user", histogram(category) AS seen FROM events WHERE type = 'view'
            GROUP BY "user" HAVING count(*) >= 20
        ) JOIN users USING ("user"), (SELECT list(DISTINCT category) AS categories FROM items)
        ORDER BY "user"
        """
    ).fetchall()
    counts = np.array([row[2] for row in rows], float)
    shares = np.sqrt(counts / counts.sum(axis=1, keepdims=True))
    return shares, np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def test_gender_shows_in_what_users_view_but_not_outright(log):
    shares, women, _ = category_shares(log)
    model = LogisticRegression(C=10, max_iter=1000)
    scores = cross_val_predict(model, shares, women, cv=5, method="predict_proba")[:, 1]
    assert 0.74 < roc_auc_score(women, scores) < 0.9


def test_age_shows_in_what_users_view_but_not_outright(log):
    shares, _, ages = category_shares(log)
    bands = np.digitize(ages, [25, 35, 50])
    majority = np.bincount(bands).max() / len(bands)
    guesses = cross_val_predict(LogisticRegression(C=10, max_iter=1000), shares, bands, cv=5)
    assert majority + 0.06 < accuracy_score(bands, guesses) < 0.7


def test_a_purchase_next_week_is_predictable_from_behavior_within_limits(log):
    rows = log.execute(
        """
        SELECT ln(1 + count(*) FILTER (day < $cut)),
               ln(1 + count(*) FILTER (day < $cut AND day >= $cut - 7)),
               ln(1 + count(*) FILTER (day < $cut AND type = 'purchase')),
               ln(1 + count(*) FILTER (day < $cut AND type = 'add_to_cart')),
               count(*) FILTER (day >= $cut AND type = 'purchase') > 0
        FROM events GROUP BY "user" HAVING min(day) < $cut ORDER BY "user"
        """,
        {"cut": DAYS - HORIZON},
    ).fetchall()
    table = np.array(rows, float)
    behavior, bought = table[:, :-1], table[:, -1]
    assert 0.08 < bought.mean() < 0.35
    model = LogisticRegression(max_iter=1000)
    scores = cross_val_predict(model, behavior, bought, cv=5, method="predict_proba")[:, 1]
    assert 0.68 < roc_auc_score(bought, scores) < 0.85


def test_recent_intent_tells_more_than_activity_does(log):
    """Of users equally active in the last 7 days, those who left a cart buy more often next."""
    rate = dict(
        log.execute(
            """
            SELECT carts > 0, avg(buys::INT) FROM (
                SELECT count(*) FILTER (day < $cut AND type = 'add_to_cart')
                         - count(*) FILTER (day < $cut AND type = 'purchase') AS carts,
                       count(*) FILTER (day < $cut) AS n,
                       count(*) FILTER (day >= $cut AND type = 'purchase') > 0 AS buys
                FROM events WHERE day >= $cut - 7 GROUP BY "user"
            ) WHERE n BETWEEN 10 AND 40 GROUP BY 1
            """,
            {"cut": DAYS - HORIZON},
        ).fetchall()
    )
    assert rate[True] > 1.2 * rate[False]


def test_weekends_are_busier_than_workdays(log):
    by_weekday = dict(
        log.execute("SELECT isodow(t), count(*) FROM events WHERE day < 49 GROUP BY 1").fetchall()
    )
    workday = np.mean([by_weekday[n] for n in (1, 2, 3, 4)])
    assert by_weekday[7] > by_weekday[6] > 1.1 * workday


def test_evenings_are_busier_than_nights(log):
    by_hour = dict(log.execute("SELECT hour(t), count(*) FROM events GROUP BY 1").fetchall())
    assert by_hour[20] > 5 * by_hour[3]


def test_activity_and_popularity_have_heavy_tails(log):
    for column in ('"user"', "item"):
        counts = log.execute(
            f"SELECT count(*) AS n FROM events WHERE item IS NOT NULL GROUP BY {column} ORDER BY n"
        ).fetchnumpy()["n"]
        assert counts[-len(counts) // 10 :].sum() > 0.3 * counts.sum(), column


def test_users_make_a_hundred_events_or_so_in_two_months(log):
    (events,) = log.execute("SELECT count(*) FROM events").fetchall()[0]
    assert 90 < events / 2000 / DAYS * 60 < 160


def test_the_next_category_follows_the_one_before_more_than_taste_explains(log):
    stays, by_taste = log.execute(
        """
        WITH steps AS (
            SELECT "user", category, lag(category) OVER (PARTITION BY "user" ORDER BY t, id) AS prev
            FROM events WHERE item IS NOT NULL
        ), taste AS (
            SELECT "user", sum(share * share) AS chance FROM (
                SELECT "user", count(*) / sum(count(*)) OVER (PARTITION BY "user") AS share
                FROM steps GROUP BY "user", category
            ) GROUP BY "user"
        )
        SELECT avg((category = prev)::INT), avg(chance) FROM steps JOIN taste USING ("user")
        WHERE prev IS NOT NULL
        """
    ).fetchall()[0]
    assert stays > 1.5 * by_taste


def test_the_best_sellers_change(log):
    top = [
        {
            item
            for (item,) in log.execute(
                """SELECT item FROM events WHERE item IS NOT NULL AND day BETWEEN ? AND ?
                   GROUP BY item ORDER BY count(*) DESC LIMIT 50""",
                [first, first + 9],
            ).fetchall()
        }
        for first in (0, 10, 39)
    ]
    assert len(top[0] & top[1]) > len(top[0] & top[2]) > 5


def test_interests_turn_slowly():
    population = make_population(500, seed=0)
    users = np.arange(500)

    def likeness(day: int) -> float:
        today, then = (population.log_interest(users, d) for d in (0, day))
        common = today.mean(axis=1, keepdims=True)
        pairs = zip((today - common).T, (then - common).T, strict=True)
        return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))

    assert 0.97 < likeness(7) < 1
    assert 0.6 < likeness(60) < 0.95
    assert likeness(120) < likeness(60)
