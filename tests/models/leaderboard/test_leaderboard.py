import itertools
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.metrics import KNOWN_METRICS, Metric
from contracts.lake.schemas import METRICS
from models.leaderboard import boards, collect, plot, to_markdown, write_html
from models.leaderboard.efficiency import best_rows, label, spread_out
from models.leaderboard.markdown import as_html, markdown
from models.leaderboard.significance import paired_seeds


def rows(method, encoder, protocol, task, metric, values: dict[float, list[float]]) -> list[dict]:
    common = {"method": method, "encoder": encoder, "protocol": protocol, "task": task}
    common |= {"inputs": "items" if encoder == "-" else "embedding"}
    common |= {"train_users": 80, "test_users": 10, "seconds": 1.0, "model_version": None}
    return [
        common | {"metric": metric, "label_share": share, "seed": seed, "value": value}
        for share, found in values.items()
        for seed, value in enumerate(found)
    ]


@pytest.fixture
def table(tmp_path) -> pa.Table:
    ptum = rows("ptum", "bert4rec", "frozen", "age", "auc", {0.2: [0.7, 0.8], 1.0: [0.82]})
    ptum += rows("ptum", "bert4rec", "frozen", "age", "ap", {1.0: [0.1]})
    ptum += rows("ptum", "bert4rec", "frozen", "spend", "mae", {1.0: [3.0]})
    plain = rows("majority", "-", "baseline", "age", "auc", {0.2: [0.5], 1.0: [0.5]})
    plain += rows("majority", "-", "baseline", "spend", "mae", {1.0: [4.0]})
    paths = [tmp_path / "ptum.parquet", tmp_path / "plain.parquet"]
    for path, part in zip(paths, (plain, ptum), strict=True):
        pq.write_table(pa.Table.from_pylist(part, schema=METRICS), path)
    return collect(paths)


def test_rows_are_means_over_seeds_ordered_by_the_tasks_metric(table):
    age, spend = boards(table)
    assert (age.metric.name, spend.metric.name) == ("auc", "mae")
    assert [key[0] for key, _ in age.rows] == ["ptum", "majority"]
    assert [key[0] for key, _ in spend.rows] == ["ptum", "majority"]  # a small error is good
    cell = age.rows[0][1][0.2]
    assert (cell.mean, cell.spread) == (pytest.approx(0.75), pytest.approx(0.0707, abs=1e-4))


def test_markdown_shows_mean_and_spread_marks_the_best_and_tells_of_seeds_that_lack(table):
    lines = to_markdown(table).splitlines()
    assert lines[0] == "### age (auc, 10 test users per seed)"
    assert lines[2] == "| method | encoder | protocol | inputs | 20% labels | 100% labels |"
    one = "(1 of 2 seeds)"
    both = f"**0.750 ± 0.071** | **0.820 {one}**"
    assert lines[4] == f"| ptum | bert4rec | frozen | embedding | {both} |"
    assert lines[5] == f"| majority | - | baseline | items | 0.500 {one} | 0.500 {one} |"
    assert "### spend (mae, smaller is better, 10 test users)" in lines
    assert "| ptum | bert4rec | frozen | embedding | **3.000** |" in lines


def test_a_metric_that_is_added_as_an_error_is_led_by_its_smallest(monkeypatch):
    added = Metric("added", ("regression",), larger_is_better=False)
    monkeypatch.setitem(KNOWN_METRICS, "added", added)
    found = rows("far", "bag", "frozen", "spend", "added", {1.0: [4.0, 4.1]})
    found += rows("near", "bag", "frozen", "spend", "added", {1.0: [3.0, 3.3]})
    (board,) = boards(pa.Table.from_pylist(found, schema=METRICS))
    assert [who.method for who, _ in board.rows] == ["near", "far"]
    assert "**3.150" in markdown(board)
    assert paired_seeds("added", [3.0, 3.3], [9.0, 9.1]).sign == "+"


def test_of_several_classes_accuracy_and_auc_stand_side_by_side_and_each_has_its_best():
    found = []
    for method, accuracy, auc in (("often", 0.6, 0.5), ("knows", 0.55, 0.7)):
        for metric, value in (("accuracy", accuracy), ("macro_f1", 0.3), ("auc", auc)):
            shares = {0.2: [value - 0.1], 1.0: [value]}
            found += rows(method, "bag", "frozen", "age", metric, shares)
    who = boards(pa.Table.from_pylist(found, schema=METRICS))[0].rows[0][0]
    lines = to_markdown(
        pa.Table.from_pylist(found, schema=METRICS),
        {("age", "auc", who, 1.0): "T-"},
        {"age": "so many users"},
    ).splitlines()
    assert lines[0] == "### age (accuracy, auc beside it, 10 test users)"
    assert lines[2] == "so many users"
    heads = "accuracy, 20% labels | accuracy, 100% labels | auc, 20% labels | auc, 100% labels"
    assert lines[4] == f"| method | encoder | protocol | inputs | {heads} |"
    often = "**0.500** | **0.600** | 0.400 | 0.500 T-"
    assert lines[6] == f"| often | bag | frozen | embedding | {often} |"
    knows = "0.450 | 0.550 | **0.600** | **0.700**"
    assert lines[7] == f"| knows | bag | frozen | embedding | {knows} |"
    # Of two classes there is ap as well: the metric that was asked for stands alone.
    found += rows("often", "bag", "frozen", "age", "ap", {1.0: [0.1]})
    (board,) = boards(pa.Table.from_pylist(found, schema=METRICS))
    assert board.beside is None


def test_a_ranking_that_is_measured_apart_by_how_known_its_items_are_has_a_board():
    found = rows("next", "gru4rec", "frozen", "next_item", "recall@10", {1.0: [0.2]})
    found += rows("next", "gru4rec", "frozen", "next_item", "recall@10_cold", {1.0: [0.1]})
    (board,) = boards(pa.Table.from_pylist(found, schema=METRICS))
    assert (board.metric.name, board.beside) == ("recall@10", None)


def test_the_title_has_the_test_users_of_a_seed_and_a_figure_that_is_not_there_is_empty():
    found = rows("ptum", "bag", "frozen", "age", "auc", {0.2: [0.7, 0.8], 1.0: [0.8, 0.9]})
    found = [row | {"test_users": 10 + 3 * row["seed"]} for row in found]
    (board,) = boards(pa.Table.from_pylist(found, schema=METRICS))
    assert board.title == "age (auc, 10 to 13 test users per seed)"
    less = [row | {"value": None if row["label_share"] == 1 else row["value"]} for row in found]
    (board,) = boards(pa.Table.from_pylist(less, schema=METRICS))
    assert markdown(board).splitlines()[2].endswith("| **0.750 ± 0.071** |  |")
    none = [row | {"value": None} for row in found]
    assert boards(pa.Table.from_pylist(none, schema=METRICS)) == []


def test_page_and_picture_stand_alone(table, tmp_path):
    plot(table, tmp_path / "board.png")
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")
    pictures = {"label efficiency": tmp_path / "board.png"}
    write_html(table, pictures, tmp_path / "board.html", notes=["1 < 2"], remarks={"age": "2 < 3"})
    page = (tmp_path / "board.html").read_text()
    assert "<td><b>0.750 ± 0.071</b></td>" in page
    assert "data:image/png;base64," in page
    assert "{" not in page.split("</style>")[1]
    assert "<p>1 &lt; 2</p>" in page
    assert "test users per seed)</h2><p>2 &lt; 3</p><table>" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert "http" not in page


def test_a_row_whose_features_add_nothing_is_a_sentence_below_the_table():
    same = rows("ptum", "bag", "frozen", "age", "auc", {0.2: [0.7, 0.8], 1.0: [0.82]})
    other = rows("coles", "bag", "frozen", "age", "auc", {0.2: [0.7, 0.8], 1.0: [0.82]})
    # Of coles they add something at one of the shares.
    more = [row | {"value": row["value"] + 0.01 * (row["label_share"] == 1)} for row in other]
    joint = [row | {"inputs": "embedding+features"} for row in same + more]
    joint += [row | {"value": 0.9, "inputs": "embedding+items"} for row in same]
    joint += [row | {"value": 0.9, "inputs": "embedding+features+items"} for row in same]
    table = pa.Table.from_pylist(same + other + joint, schema=METRICS)
    (board,) = boards(table)
    shown = [(who.method, who.inputs) for who, _ in board.rows]
    assert len(shown) == 4
    assert ("coles", "embedding+features") in shown
    said = (
        "The features add nothing to these, which are shown without: "
        "ptum bag frozen embedding+features, ptum bag frozen embedding+features+items."
    )
    assert to_markdown(table).endswith(f" |\n\n{said}\n")
    assert f"<p>{said}</p>" in as_html(board)
    assert "add nothing" not in to_markdown(pa.Table.from_pylist(same, schema=METRICS))


def test_each_method_is_one_line_and_the_picture_as_wide_as_the_page(tmp_path):
    found = []
    for n in range(9):
        for protocol, better in (("frozen", 0.0), ("finetuned", 0.05)):
            values = {0.2: [0.5 + n / 100], 1.0: [0.6 + n / 25 + better]}
            found += rows(f"m{n}", "bag", protocol, "age", "auc", values)
    for n in range(5):
        found += rows(f"b{n}", "-", "baseline", "age", "auc", {0.2: [0.4], 1.0: [0.5 + n / 100]})
    table = pa.Table.from_pylist(found, schema=METRICS)
    lines = [label(who) for who, _ in best_rows(boards(table)[0])]
    assert lines == [*[f"m{n} bag finetuned" for n in (8, 7, 6, 5, 4, 3)], "b4", "b3", "b2"]
    plot(table, tmp_path / "board.png")
    width = int.from_bytes((tmp_path / "board.png").read_bytes()[16:20])
    assert width == 1000


@pytest.mark.parametrize("places", [[1.0, 1.0, 1.0], [0.0, 5.0, 5.5, 6.0, 40.0], [3.0], []])
def test_names_of_lines_do_not_lie_on_each_other(places):
    moved = spread_out(places, 2.0)
    assert all(b - a >= 2 - 1e-9 for a, b in itertools.pairwise(sorted(moved)))
    assert [moved[n] for n in range(len(places))] == sorted(moved)
    assert moved[:1] == places[:1] or len(set(places)) < 2  # what is free stays
    assert sum(moved) == pytest.approx(sum(places))


def test_many_lines_are_told_apart(table, tmp_path):
    from models.leaderboard.plots import COLORS, MARKERS

    looks = {
        (COLORS[n % len(COLORS)], MARKERS[(n + n // len(COLORS)) % len(MARKERS)]) for n in range(40)
    }
    assert len(looks) == 40


def test_no_metrics_and_foreign_tables_are_sentences(tmp_path):
    with pytest.raises(FootpathError, match="there are no metrics to compare"):
        collect([])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(FootpathError, match=r"x\.parquet is not a table of metrics"):
        collect([tmp_path / "x.parquet"])
