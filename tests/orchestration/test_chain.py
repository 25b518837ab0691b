"""The whole chain on a small shop: every count agrees with what the shop put in."""

import json
import re
import shlex
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from models.metrics.predictions import RUN, read_predictions
from tests.orchestration.conftest import footpath

pytestmark = pytest.mark.timeout(900)  # the shop takes its time on a busy machine


@pytest.fixture
def lake(small_shop: Path) -> Path:
    return small_shop / "lake" / "shop"


@pytest.fixture
def truth(small_shop: Path) -> dict:
    return json.loads((small_shop / "source/shop/truth.json").read_text())


def count(pattern: Path, where: str = "true") -> int:
    query = f"SELECT count(*) FROM read_parquet('{pattern}') WHERE {where}"
    return duckdb.sql(query).fetchall()[0][0]


def test_every_row_is_published_or_in_quarantine_or_a_repeat(lake, truth):
    published = count(lake / "events/*.parquet")
    refused = count(lake / "quarantine/*/*.parquet")
    assert published == truth["events"]
    assert refused == sum(truth["malformed"].values())
    assert published + refused + truth["repeated"] == truth["lines"]


@pytest.mark.parametrize(
    ("rule", "kind"),
    [("action_known", "unknown_action"), ("user_id_present", "missing_user")],
)
def test_quarantine_says_which_rule_each_row_breaks(lake, truth, rule, kind):
    rules = duckdb.sql(
        f"SELECT DISTINCT unnest(broken) FROM read_parquet('{lake}/quarantine/*/*.parquet')"
    ).fetchall()
    assert (rule,) in rules
    found = count(lake / "quarantine/*/*.parquet", f"list_contains(broken, '{rule}')")
    assert found == truth["malformed"][kind]


def test_every_event_is_in_one_session_or_in_one_that_is_still_open(lake):
    events = count(lake / "events/*.parquet")
    closed = duckdb.sql(f"SELECT sum(length) FROM read_parquet('{lake}/sessions/*.parquet')")
    open_events = events - closed.fetchall()[0][0]
    assert 0 <= open_events < events * 0.02


def test_the_leaderboard_has_every_recipe_and_the_baselines(lake):
    table = (lake / "leaderboard/leaderboard.md").read_text()
    assert re.search(r"^\w+_v1 leads by its validation users \(frozen probe, mean", table, re.M)
    for name in ("ptum", "bert4rec", "future", "bag", "majority", "tfidf", "profile"):
        assert name in table
    assert (lake / "leaderboard/leaderboard-labels.png").stat().st_size > 10_000


def test_of_every_figure_of_the_leaderboard_the_predictions_are_kept(lake):
    paths = {path.name: path for path in (lake / "measurements").glob("*.parquet")}
    measured = [path for name, path in paths.items() if not name.endswith(".predictions.parquet")]
    assert len(measured) * 2 == len(paths) > 10
    for path in measured:
        rows = pq.read_table(path, columns=list(RUN)).to_pylist()
        said = read_predictions([path.with_suffix(".predictions.parquet")])
        assert {tuple(row.values()) for row in rows} == set(said), path.name


def test_the_best_fine_tuned_model_of_a_task_is_a_version_that_embeds_and_scores(lake):
    versions = json.loads((lake / "versions.json").read_text())["versions"]
    tuned = [version for version in versions if version["task"]]
    assert {version["task"] for version in tuned} == {"gender", "purchase_7d"}
    for version in tuned:
        assert (lake / "trials" / version["trial"] / "config.json").exists()
        paths = sorted((lake / "user_embeddings" / version["version"]).glob("*.parquet"))
        assert [path.stem for path in paths] == ["2026-01-14", "2026-01-21"]
        for path in paths:
            assert {"score", "scores"} & set(pq.read_schema(path).names)
    assert {f"user_embeddings_{version['version']}" for version in tuned} <= set(
        json.loads((lake / "feature_store" / "views.json").read_text())
    )
    services = json.loads((lake / "feature_store" / "services.json").read_text())
    for version in tuned:
        service = services["services"][services["aliases"][version["task"]]]
        assert service["tags"]["model_version"] == version["version"]


def test_the_output_ends_with_results_and_three_commands_that_run(small_shop):
    output = (small_shop / "run.out").read_text()
    after = output[output.index("Next:") :].splitlines()[1:4]
    assert [line.split()[0].rsplit("/", 1)[-1] for line in after] == ["make", "footpath", "python"]
    similar = footpath(small_shop, *shlex.split(after[1])[1:])
    assert similar.returncode == 0, similar.stderr
    assert len(similar.stdout.splitlines()) == 10
    unknown = footpath(small_shop, "users", "similar", "nobody")
    assert unknown.returncode == 1
    assert "nobody" in unknown.stderr


def test_embeddings_carry_version_and_clocks(lake):
    (path, *_) = sorted(lake.glob("user_embeddings/*/*.parquet"))
    rows = pq.read_table(path, columns=["model_version", "event_timestamp", "created"]).to_pylist()
    assert {row["model_version"] for row in rows} == {path.parent.name}
    assert all(row["created"] >= row["event_timestamp"] for row in rows)


def test_features_and_embeddings_end_with_the_same_day(lake):
    tables = [lake / "user_behavior_features", *lake.glob("user_embeddings/*/")]
    ends = {max(path.stem for path in table.glob("*.parquet")) for table in tables}
    assert len(tables) > 4  # two recipes that train, a model of each of two tasks
    assert len(ends) == 1


@pytest.mark.long
def test_a_comparison_by_the_command_line_shows_what_it_measured_and_measures_it_once(
    small_shop, tmp_path
):
    into = tmp_path / "results.md"
    arguments = [
        "compare", "--methods", "coles", "--encoders", "bag", "--tasks", "gender", "--labels",
        "100", "--seeds", "1", "--protocols", "frozen", "--set", "epochs=1", "--name", "mine",
        "--into", str(into),
    ]  # fmt: skip
    dry = footpath(small_shop, *arguments, "--dry-run")
    assert "  coles bag, seed 0: pre-training" in dry.stdout, dry.stdout + dry.stderr
    first = footpath(small_shop, *arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "] coles bag, seed 0: gender" in first.stdout
    assert re.search(r"^gender: .* at 100% labels$", first.stdout, re.M)
    assert "comparisons/mine/mine.html (" in first.stdout
    assert "<!-- compare mine -->" in into.read_text()
    again = footpath(small_shop, *arguments)
    assert "0 processes to run" in again.stdout
    failing = footpath(
        small_shop, *arguments, "--set", "collapse=stop", "--set", "min_spread=1000.0"
    )
    assert failing.returncode == 1
    assert "coles bag, seed 0: pre-training: " in failing.stderr
    assert "comparisons/mine/mine.html (" in failing.stdout  # the baselines count
    assert "not measured" in into.read_text()
