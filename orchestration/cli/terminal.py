"""What `footpath run` shows on a terminal: stages, progress, results, and what to do next."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts.base.text import command, shown
from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake, home
from contracts.lake.reading import read_table
from orchestration.progress import TerminalProgress, counter

if TYPE_CHECKING:
    from features.drafts.findings import Finding
    from features.drafts.preview import Preview


class _Console(Console):
    def render_str(self, text: str, **how: Any) -> Text:
        """Text of every cell, title and line: what a terminal would obey is escaped."""
        return super().render_str(shown(text), **how)


# What is printed has values of the data in it: nothing of it is markup.
console = _Console(highlight=False, markup=False, emoji=False)


class Terminal:
    """One run of the chain, told to a person."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.lake = Lake.of(dataset.name)
        self.started = time.monotonic()

    def generate_shop(self, users: int, days: int, seed: int) -> None:
        """Writes the shop's landing files below the home folder: a source that has an end."""
        from features.ingestion.listing import arrival_days
        from features.shop import generate_shop

        folder = home() / "source" / "shop"
        _say(f"0. A synthetic shop: {users:,} users, {days} days, seed {seed}")
        with counter("days of the shop") as report:
            start = self.dataset.partitions.start
            truth = generate_shop(folder, users, days, seed, start, report)
        link_source(self.dataset.name, str(folder))
        link_source(self.dataset.name, str(folder), arrival_days(self.dataset)[-1])
        console.print(f"   {truth.lines:,} rows, among them broken, late and repeated ones")

    def run_chain(self, seed: int, first_day: str, last_day: str, until: str = "") -> None:
        """Runs the whole chain on the instance that the UI shows."""
        from orchestration.chain import WholeChain, run_chain
        from orchestration.definitions import open_runner

        os.environ["FOOTPATH_TERMINAL"] = "1"  # the programs that train tell loss and time left
        with open_runner(self.dataset, {"progress": TerminalProgress()}) as runner:
            run_chain(
                runner,
                WholeChain(seed=seed, first_day=first_day, last_day=last_day, until=until),
                _say,
            )

    def show_results(self) -> None:
        """Prints the leaderboard, where things lie, and three commands to try next."""
        name = self.dataset.name
        path = self.lake.root / "leaderboard" / "leaderboard.md"
        if path.exists():
            from rich.markdown import Markdown  # half a second of every command's start

            console.print(Markdown(path.read_text()))
        table = Table(title=f"Where it lies (in {time.monotonic() - self.started:.0f} s)")
        table.add_column("what")
        table.add_column("path", overflow="fold")
        for what, relative in (
            ("tables, one object a day", "{events,sessions,*_features}"),
            ("rows that were refused, with reasons", "quarantine"),
            ("what was expected of the data", "data_docs/index.html"),
            ("checkpoints", "trials"),
            ("leaderboard", "leaderboard/leaderboard.html"),
            ("feature store", "feature_store"),
        ):
            if "{" in relative or (self.lake.root / relative).exists():
                table.add_row(what, f"{_short(self.lake.root)}/{relative}")
        console.print(table)
        console.print("Next:")
        console.print("  make ui            # all of it in Dagster, at http://127.0.0.1:3000")
        user = self._a_user()
        if user is None:  # the chain was stopped before its end
            console.print(f"  {_bin('footpath')} run --dataset {name}    # the rest of the chain")
            return
        similar = command(_bin("footpath"), "users", "similar", "--dataset", name, last=user)
        console.print(f"  {similar}", soft_wrap=True)
        store = self.lake.work / "feature_store"
        example = f"  {_bin('python')} docs/examples/retrieve.py --repo {_short(store)}"
        console.print(example, soft_wrap=True)

    def _a_user(self) -> str | None:
        found = sorted(self.lake.table("user_embeddings").glob("*/*.parquet"))
        if not found:
            return None
        return read_table(found[-1], columns=["user_id"])["user_id"][0].as_py()


def show_preview(dataset: Dataset, preview: "Preview") -> None:
    """Prints what `datasets check` found in a sample."""
    files, looked_at = preview.files, preview.looked_at
    some = "all" if looked_at == files else f"{looked_at:,}, for more take too long,"
    many = f"s, {some} of them looked into" if files > 1 else ""
    console.print(f"{dataset.title}: {files:,} landing file{many}; the first is {preview.file}")
    which = "each" if looked_at > 1 else "it"
    console.print(
        f"Of {preview.rows:,} rows in a sample of {which}, {preview.refused_rows:,} are refused."
    )
    if preview.span:
        low, high = (f"{moment:%Y-%m-%d %H:%M:%S}" for moment in preview.span)
        users, items = preview.distinct["users"], preview.distinct["items"]
        console.print(f"{low} to {high} UTC; {users:,} users, {items:,} items.")
    if preview.actions:
        named = [f"{action} {count:,}" for action, count in preview.actions.items()]
        console.print(f"Actions: {', '.join(named[:20])}{', ...' if len(named) > 20 else ''}")
    nulls = [f"{f} {s:.1%}" for f, s in preview.null_shares.items() if 0 < s < 1]
    if nulls:
        console.print(f"Null: {', '.join(nulls)}")
    events, agree = preview.sessions
    if events:
        console.print(
            f"Sessions: {agree / events:.1%} of {events:,} events begin one, or not, alike by the "
            f"gap of {dataset.sessions.gap_minutes} minutes and by the source's id; "
            f"sessions.by is {dataset.sessions.by}."
        )
    for section, table in preview.coverage.items():
        if table.is_read and not table.fault:
            find = f"{table.found:,} of {table.events:,} events find theirs."
            console.print(f"{section}: {table.keys:,}; {find}")
    if preview.events.num_rows:
        _print_table("Events", preview.events)
    if preview.refused_rows:
        named = ["source_file"] if looked_at == 1 else []  # which stands above
        _print_table("Refused rows", preview.refused.drop_columns(named))


def show_uses(uses: dict[str, dict[str, list[str]]]) -> None:
    """Prints what each declared column is used for."""
    for section, columns in uses.items():
        table = Table(title=f"Columns of {section}")
        table.add_column("column", overflow="fold")
        table.add_column("used for", overflow="fold")
        for column, fields in columns.items():
            table.add_row(column, ", ".join(fields) or "nothing")
        console.print(table)


def show_findings(findings: list["Finding"]) -> None:
    """Prints what a person should look at."""
    for finding in findings:
        mark = ("x ", "red") if finding.fails else ("- ", "yellow")
        console.print(Text.assemble(mark, shown(finding.text)), soft_wrap=True)
    if not findings:
        console.print("Nothing looks wrong.")


def _say(line: str) -> None:
    """Prints a line of the chain; one that opens a stage is bold."""
    console.print(line, style="" if line.startswith(" ") else "bold")


def _print_table(title: str, rows: pa.Table) -> None:
    table = Table(title=title)
    filled = [name for name in rows.column_names if rows[name].null_count < rows.num_rows]
    for name in filled:
        table.add_column(name, overflow="fold")
    for row in rows.select(filled).to_pylist():
        table.add_row(*["" if value is None else _cell(value) for value in row.values()])
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, list):  # a map column
        return ", ".join(f"{key}={entry}" for key, entry in value)
    return str(value)


def _bin(name: str) -> str:
    return _short(Path(sys.executable).parent / name)


def _short(path: Path) -> str:
    """Path as seen from here, where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, TypeError):  # elsewhere, or on S3
        return str(path)
