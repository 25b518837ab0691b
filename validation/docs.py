"""Data Docs: Great Expectations' pages of what was audited, as a static site of the lake.

In:  a validation result. Out: `<folder>/<table>/<days>.html`, and `<folder>/index.html`, which
lists the pages. A page is rewritten when its days are audited again. The styles of the pages come
from public servers when a browser opens them; they read without.
"""

import html
import os
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.lake import is_remote

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult


def write_page(
    folder: Path, table: str, label: str, result: "ExpectationSuiteValidationResult"
) -> str:
    """Writes the page of one audit, refreshes the index, and returns the page's path.

    Args:
      folder: the site.
      table: what was audited.
      label: which days, such as 2026-01-01 or 2026-01-01 to 2026-01-31.
      result: of the suite.
    """
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    document = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
    page = folder / table / f"{label.replace(' ', '_')}.html"
    _replace(page, DefaultJinjaPageView().render(document))
    _replace(folder / "index.html", _index(folder))
    return str(page)


def _index(folder: Path) -> str:
    """Returns a list of all pages, by table, the latest days first."""
    sections = []
    for table in sorted(path for path in folder.iterdir() if path.is_dir()):
        links = "\n".join(
            f'<li><a href="{html.escape(f"{table.name}/{page.name}")}">'
            f"{html.escape(page.stem.replace('_', ' '))}</a></li>"
            for page in sorted(table.glob("*.html"), reverse=True)
        )
        sections.append(f"<h2>{html.escape(table.name)}</h2>\n<ul>\n{links}\n</ul>")
    return (
        "<!doctype html>\n<meta charset='utf-8'>\n<title>Data Docs</title>\n"
        "<style>body { font: 16px sans-serif; margin: 2em auto; max-width: 50em }</style>\n"
        "<h1>Data Docs</h1>\n<p>What was expected of each table's days, and what was found.</p>\n"
        + "\n".join(sections)
        + "\n"
    )


def _replace(path: Path, text: str) -> None:
    """Writes a page in one step: a browser sees the old one or the new one."""
    if is_remote(path):
        path.write_text(text, encoding="utf-8")  # one PUT
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_text(text, encoding="utf-8")
    os.replace(staged, path)
