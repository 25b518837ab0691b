"""Data Docs: what was expected of each table's days and what was found, as a static site.

In:  Great Expectations' result of an audit, and the outcome of each of its days. Out: below the
lake's `data_docs`, `<table>/<days>.html`, `<table>.json` (the outcome of every day so far) and
`index.html`, which shows at a glance which days are clean, warned and stopped. A page is rewritten
when its days are audited again.

Great Expectations' own pages load styles and programs from public servers and show samples of
broken values. These load nothing and show counts: values of users stay in the lake.
"""

import datetime as dt
import html
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.lake.layout import Lake
from contracts.lake.publishing import change_json, publish_text
from contracts.lake.reading import read_json

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

KINDS = ("clean", "warned", "stopped")

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em;
       color: #222; background: #fff }
table { border-collapse: collapse; width: 100% } h1 { font-size: 1.5em } h2 { font-size: 1.15em }
td, th { text-align: left; padding: .3em .7em; border-bottom: 1px solid #ddd }
td.n { text-align: right; font-variant-numeric: tabular-nums } code { font-size: .9em }
.clean { background: #2e7d32 } .warned { background: #e69500 } .stopped { background: #c62828 }
.day { display: inline-block; width: 2.1em; margin: 1px; padding: .1em 0; text-align: center;
       color: #fff; text-decoration: none; border-radius: 3px; font-size: .85em }
.month { display: inline-block; width: 5em } .key .day { width: auto; padding: .1em .6em }
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a day at the gate."""

    day: dt.date
    status: str  # clean, warned or stopped
    rows: int
    refused: int
    sentences: list[str]


def page_path(lake: Lake, table: str, label: str) -> Path:
    """Where the page of an audit lies."""
    return lake.table("data_docs") / table / f"{label.replace(' ', '_')}.html"


def write_page(
    lake: Lake,
    table: str,
    label: str,
    result: "ExpectationSuiteValidationResult",
    seen: str,
    outcomes: Iterable[Outcome],
) -> str:
    """Writes the page of one audit, and returns its path.

    Args:
      lake: whose.
      table: what was audited.
      label: which days, such as 2026-01-01 or 2026-01-01 to 2026-01-31.
      result: of the suites.
      seen: which rows Great Expectations saw, in words.
      outcomes: of the days.
    """
    said = "".join(
        f"<li><b>{o.day} {o.status}</b>: {html.escape('; '.join(o.sentences))}</li>"
        for o in outcomes
        if o.sentences
    )
    found = result.statistics
    body = (
        f"<p><a href='../index.html'>Data Docs</a></p><h1>{html.escape(table)}, {label}</h1>"
        f"<p>{found['successful_expectations']} of {found['evaluated_expectations']} expectations "
        f"are met. Great Expectations saw {html.escape(seen)}.</p>"
        f"<ul>{said}</ul><table><tr><th>met</th><th>expectation</th><th>rule</th>"
        f"<th>of</th><th>unexpected</th></tr>{_expectations(result)}</table>"
    )
    page = page_path(lake, table, label)
    publish_text(lake, document(f"{table} {label}", body), page)
    return str(page)


def _expectations(result: "ExpectationSuiteValidationResult") -> str:
    """A row of the page for every expectation, those that are not met first."""
    rows = []
    for found in sorted(result.results, key=lambda found: bool(found.success)):
        config = found.expectation_config
        assert config is not None
        severity = str(getattr(config.severity, "value", config.severity) or "critical")
        met = "clean" if found.success else "warned" if severity == "warning" else "stopped"
        count = found.result.get("unexpected_count", "")
        unit = "days" if (config.meta or {})["rule"].endswith((" warn", " stop")) else "rows"
        count = f"{count:,}" if isinstance(count, int) else ""
        rule = html.escape((config.meta or {})["rule"])
        rows.append(
            f"<tr><td><span class='day {met}'>{'yes' if found.success else 'no'}</span></td>"
            f"<td>{html.escape(_text(config.notes))}<br><code>{config.type}</code></td>"
            f"<td><code>{rule}</code></td><td>{unit}</td><td class='n'>{count}</td></tr>"
        )
    return "\n".join(rows)


def _text(notes: str | list[str] | None) -> str:
    return "; ".join(notes) if isinstance(notes, list) else notes or ""


def note_outcomes(
    lake: Lake, table: str, outcomes: Iterable[Outcome], pages: Mapping[dt.date, str | None]
) -> None:
    """Puts the outcomes of days on the index.

    Args:
      lake: whose.
      table: of which table.
      outcomes: of the days.
      pages: the page of each day, if it has one.
    """
    folder, new = lake.table("data_docs"), {}
    for o in outcomes:
        page = pages.get(o.day)
        new[str(o.day)] = {
            "status": o.status,
            "rows": o.rows,
            "refused": o.refused,
            "page": f"{table}/{page.rpartition('/')[2]}" if page else None,
            "sentences": o.sentences,
        }
    with lake.locked("data_docs"):
        change_json(lake, folder / f"{table}.json", lambda days: days | new)
        publish_text(lake, _index(folder), folder / "index.html")


def _index(folder: Path) -> str:
    """The page that shows every day of every table as a square."""
    sections = []
    for path in sorted(folder.glob("*.json")):
        days = read_json(path)
        counts = dict.fromkeys(KINDS, 0)
        for found in days.values():
            counts[found["status"]] += 1
        told = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        months = "".join(
            f"<div><span class='month'>{month}</span>"
            f"{''.join(_square(day, days[day]) for day in of_month)}</div>"
            for month, of_month in itertools.groupby(sorted(days), key=lambda day: day[:7])
        )
        sections.append(f"<h2>{html.escape(path.stem)}: {told}</h2>{months}")
    links = "".join(
        f"<p><a href='{page.name}'>{html.escape(page.stem)}</a></p>"
        for page in sorted(folder.glob("*.html"))
        if page.name != "index.html"
    )
    key = "".join(f"<span class='day {kind}'>{kind}</span> " for kind in KINDS)
    return document(
        "Data Docs", f"<h1>Data Docs</h1><p class='key'>{key}</p>{links}{''.join(sections)}"
    )


def _square(day: str, found: Mapping) -> str:
    title = f"{day}: {found['rows']:,} rows, {found['refused']:,} in quarantine"
    title = html.escape("; ".join([title, *found["sentences"]]), quote=True)
    href = f' href="{html.escape(found["page"])}"' if found["page"] else ""
    return f'<a class="day {found["status"]}"{href} title="{title}">{day[8:]}</a>'


def document(title: str, body: str) -> str:
    """A page that loads nothing."""
    return (
        f"<!doctype html>\n<html lang='en'><meta charset='utf-8'>\n<title>{html.escape(title)}"
        f"</title>\n<style>{STYLE}</style>\n{body}\n</html>\n"
    )
