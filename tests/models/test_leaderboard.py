import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.errors import FootpathError
from contracts.tables import METRICS
from models.leaderboard import boards, collect, plot, to_markdown, write_html


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
    assert (age.metric, spend.metric) == ("auc", "mae")
    assert [key[0] for key, _ in age.rows] == ["ptum", "majority"]
    assert [key[0] for key, _ in spend.rows] == ["ptum", "majority"]  # a small error is good
    cell = age.rows[0][1][0.2]
    assert (cell.mean, cell.spread) == (pytest.approx(0.75), pytest.approx(0.0707, abs=1e-4))


def test_markdown_shows_mean_and_spread_and_marks_the_best(table):
    lines = to_markdown(table).splitlines()
    assert lines[0] == "### age (auc, 10 test users)"
    assert lines[2] == "| method | encoder | protocol | inputs | 20% labels | 100% labels |"
    assert lines[4] == "| ptum | bert4rec | frozen | embedding | **0.750 ± 0.071** | **0.820** |"
    assert lines[5] == "| majority | - | baseline | items | 0.500 | 0.500 |"
    assert "### spend (mae, smaller is better, 10 test users)" in lines
    assert "| ptum | bert4rec | frozen | embedding | **3.000** |" in lines


def test_page_and_picture_stand_alone(table, tmp_path):
    plot(table, tmp_path / "board.png")
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")
    pictures = {"label efficiency": tmp_path / "board.png"}
    write_html(table, pictures, tmp_path / "board.html", notes=["1 < 2"])
    page = (tmp_path / "board.html").read_text()
    assert "<td><b>0.750 ± 0.071</b></td>" in page
    assert "data:image/png;base64," in page
    assert "{" not in page.split("</style>")[1]
    assert "<p>1 &lt; 2</p>" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert "http" not in page


def test_many_lines_are_told_apart(table, tmp_path):
    from models.leaderboard.plots import COLOURS, MARKERS

    looks = {
        (COLOURS[n % len(COLOURS)], MARKERS[(n + n // len(COLOURS)) % len(MARKERS)])
        for n in range(40)
    }
    assert len(looks) == 40


def test_no_metrics_and_foreign_tables_are_sentences(tmp_path):
    with pytest.raises(FootpathError, match="there are no metrics to compare"):
        collect([])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(FootpathError, match=r"x\.parquet is not a table of metrics"):
        collect([tmp_path / "x.parquet"])
