"""`footpath quarantine`: see the rows that were refused, mend them, and replay them."""

import datetime as dt
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from contracts.base.errors import FootpathError
from contracts.base.text import command
from contracts.config.dataset import Dataset, load_dataset
from contracts.lake.layout import Lake
from orchestration.cli.output import echo

app = typer.Typer(no_args_is_help=True, help="See refused rows, mend them, and replay them.")

DatasetOption = Annotated[str, typer.Option("--dataset", help="its name in datasets/")]


@app.command("list")
def list_refused(
    dataset: DatasetOption = "shop",
    files: Annotated[
        bool, typer.Option("--files", help="a line for each landing file, with its name")
    ] = False,
) -> None:
    """Count the refused rows by day, stage and rule, or by landing file too."""
    from validation.row_quarantine import count_refused

    load_dataset(dataset)
    counts = count_refused(Lake.of(dataset))
    if not counts:
        echo("no row is in quarantine")
        return
    echo(f"{'day':10}  {'stage':8}  {'rule':32}  {'rows':>9}  {'file' if files else 'files'}")
    of_rule = itertools.groupby(counts, key=lambda found: found[:3])
    for (day, stage, rule), found in of_rule:
        by_file = [(file, rows) for *_, file, rows in found]
        where = f"{day or '-'!s:10}  {stage:8}  {rule:32}"
        for file, rows in by_file if files else ():
            echo(f"{where}  {rows:9,}  {file}")
        if not files:
            echo(f"{where}  {sum(rows for _, rows in by_file):9,}  {len(by_file):,}")


@app.command("show")
def show(
    dataset: DatasetOption = "shop",
    day: Annotated[str, typer.Option(help="event day, such as 2026-01-31")] = "",
    rule: Annotated[str, typer.Option(help="only rows that break it")] = "",
    file: Annotated[str, typer.Option(help="only rows of this landing file")] = "",
    limit: Annotated[int, typer.Option(min=1)] = 20,
    out: Annotated[
        Path | None, typer.Option(help="write them here as JSON lines, to be mended")
    ] = None,
) -> None:
    """Show refused rows with their places and reasons, or write them to a file to be mended."""
    from validation.row_quarantine import read_quarantine

    config = load_dataset(dataset)
    wanted = _day(day) if day else None
    rows = read_quarantine(
        Lake.of(dataset), day=wanted, limit=limit, rule=rule or None, file=file or None
    )
    if out:
        from features.ingestion.editable import write_editable

        written = write_editable(config, rows, out)
        echo(
            f"{written:,} rows in {out}: mend what stands under `row`, then "
            f"`{command('footpath', 'quarantine', 'replay', '--dataset', dataset, last=str(out))}`"
        )
        return
    for row in rows.to_pylist():
        rules = ", ".join(row["broken"])
        echo(f"{row['source_file']}:{row['source_line']}  {row['day'] or '-'}  {rules}")
        raw = row["raw"] or "(another element of the row above)"
        echo(f"  {row['detail']}\n  {raw}")


@app.command("replay")
def replay(
    file: Annotated[
        Path | None, typer.Argument(help="mended rows; none: judge all by the YAML as it is now")
    ] = None,
    dataset: DatasetOption = "shop",
    build: Annotated[
        bool, typer.Option("--build/--no-build", help="build the days concerned at once")
    ] = True,
) -> None:
    """Put mended rows in the place of refused ones, or judge what was refused once more.

    With FILE, its rows replace the refused ones that they were written from. Without, landing
    files whose mapping has changed are landed anew, and the days with refused rows built again.
    """
    config = load_dataset(dataset)
    lake = Lake.of(dataset)
    days = _replay_rows(config, lake, file) if file else _judge_again(config, lake)
    if build:
        _build(config, days)
    elif days:
        echo(f"to be built: {', '.join(map(str, sorted(days)))}")


def _replay_rows(config: Dataset, lake: Lake, file: Path) -> set[dt.date]:
    """Lands mended rows; returns the stopped days that they touch."""
    from features.ingestion.editable import read_editable
    from features.ingestion.replay import repair
    from validation.row_quarantine import quarantine_day

    repairs = read_editable(file)
    report = repair(config, lake, repairs)
    echo(
        f"{report.replaced:,} refused rows are replaced ({report.refused_again:,} of them are "
        f"refused again), {report.unknown:,} rows of {file} replace nothing that is there"
    )
    # A published day is due by now; a stopped one may never have been published.
    return {day for day in report.days if quarantine_day(lake, "stopped", day).exists()}


def _judge_again(config: Dataset, lake: Lake) -> set[dt.date]:
    """Lands files whose mapping has changed; returns the days that may come out otherwise."""
    from features.ingestion.landing import land
    from orchestration.progress import counter
    from validation.row_quarantine import count_refused

    with counter("landing files") as progress:
        report = land(config, lake, None, progress)
    echo(f"{report.files_read:,} landing files were read anew, or for the first time")
    refused = {day for day, stage, *_ in count_refused(lake) if day and stage != "landing"}
    return refused | set(report.days)


def _build(config: Dataset, days: set[dt.date]) -> None:
    """Builds days anew, then whatever follows from them.

    Raises:
      FootpathError: a day was stopped; the others are built all the same.
    """
    from orchestration.automation.catch_up import FOLLOWING, catch_up
    from orchestration.chain import Stage, run_stage
    from orchestration.definitions import open_runner
    from orchestration.partitions import days as partitions

    there = set(partitions(config).get_partition_keys())
    stopped: list[str] = []
    with open_runner(config) as runner:
        for first, last in _ranges(sorted(day for day in days if str(day) in there)):
            echo(f"building {first} to {last}")
            try:
                run_stage(runner, Stage("daily", "", str(first), str(last)))
            except FootpathError as error:
                stopped.append(str(error))
        catch_up(runner, echo, FOLLOWING)
    if stopped:
        raise FootpathError("; ".join(stopped))


def _ranges(days: list[dt.date]) -> Iterator[tuple[dt.date, dt.date]]:
    """Yields runs of days without a gap, first and last."""
    numbered = itertools.groupby(enumerate(days), key=lambda pair: pair[1].toordinal() - pair[0])
    for _, run in numbered:
        of_run = [day for _, day in run]
        yield of_run[0], of_run[-1]


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise FootpathError(f"'{text}' is not a day: write it as 2026-01-31") from None
