"""One HTML file with the tables and the pictures: it needs no other file and no network."""

import base64
import html
from pathlib import Path

import pyarrow as pa

from models.leaderboard.boards import Marks, boards
from models.leaderboard.markdown import LEGEND, Remarks, as_html


def write_html(
    table: pa.Table,
    pictures: dict[str, Path],
    page: Path,
    marks: Marks | None = None,
    notes: list[str] | None = None,
    title: str = "Leaderboard",
    remarks: Remarks | None = None,
) -> None:
    """Writes the page.

    Args:
      table: METRICS rows.
      pictures: PNG files under what they show, in order.
      page: where the page goes.
      marks: significance, as `significance.marks` gives it.
      notes: paragraphs above the tables.
      title: of the page.
      remarks: a sentence above each task's table.
    """
    text = [LEGEND, *(notes or [])] if marks else list(notes or [])
    figures = "".join(_figure(caption, path) for caption, path in pictures.items())
    page.write_text(
        _PAGE.format(
            title=html.escape(title),
            notes="".join(f"<p>{html.escape(note)}</p>" for note in text),
            tables="".join(
                as_html(board, (remarks or {}).get(board.task, ""))
                for board in boards(table, marks)
            ),
            pictures=figures,
        ),
        encoding="utf-8",
    )


def embedded(path: Path) -> str:
    """A PNG file as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _figure(caption: str, path: Path) -> str:
    said = html.escape(caption)
    return (
        f'<figure><img alt="{said}" src="{embedded(path)}"><figcaption>{said}</figcaption></figure>'
    )


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: left; }}
td {{ font-variant-numeric: tabular-nums; }}
figure {{ margin: 2rem 0; }} figcaption {{ color: #555; }} img {{ max-width: 100%; }}
</style>
<h1>{title}</h1>
{notes}
{tables}
{pictures}
</html>
"""
