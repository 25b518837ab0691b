"""`footpath datasets`: list, link to their files, and check before anything runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.base.errors import FootpathError
from contracts.base.text import command
from contracts.config.dataset import (
    Dataset,
    dataset_folders,
    dataset_names,
    load_dataset,
    load_dataset_file,
)
from contracts.config.json_schema import schema_line, schema_text
from contracts.config.sources import enable, is_enabled, link_source, source_folder
from orchestration.cli.output import echo

if TYPE_CHECKING:
    from features.drafts.preview import Gate

app = typer.Typer(no_args_is_help=True, help="Look at data sets before they are run.")


@app.command("list")
def list_datasets() -> None:
    """List the configured data sets, which are enabled, and where their files lie."""
    for name in dataset_names():
        try:
            where = source_folder(name)
        except FootpathError:
            where = "not linked"
        mark = "enabled" if is_enabled(name) else ""
        echo(f"{name:20} {mark:8} {load_dataset(name).title:30} {where}")


@app.command("init")
def init(
    file: Annotated[str, typer.Argument(help="one file of your events, wherever it lies")],
    name: Annotated[str, typer.Option(help="of the data set; by default the file's")] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="a file or folder; by default datasets/, or FOOTPATH_DATASETS"),
    ] = None,
) -> None:
    """Draft a data set's YAML from one file of events: CSV, JSON lines or Parquet."""
    from features.drafts.drafting import draft, name_for
    from features.drafts.yaml_lines import TODO

    path = None if out and out.is_dir() else out
    name = name or (path.stem if path else name_for(file))
    target = path or (out or dataset_folders()[0]) / f"{name}.yaml"
    if target.stem != name:
        raise FootpathError(f"{target} must be called {name}.yaml: a file has its data set's name")
    if target.exists():
        raise FootpathError(f"{target} is there already: give another --name, or remove it")
    drafted = draft(file, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(schema_line(target.parent) + drafted.text, encoding="utf-8")
    load_dataset_file(target)
    todo = drafted.text.count(TODO)
    shown = target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target
    echo(f"{shown}: drafted from {drafted.rows:,} rows; {todo} lines want your eye ({TODO})")
    echo(f"Next: {command('footpath', 'datasets', 'check', str(shown), '--data', drafted.folder)}")


@app.command("link")
def link(name: str, folder: str) -> None:
    """Remember where the source files of a data set lie, and enable it.

    Example: footpath datasets link ml-100k ~/data/ml-100k
    """
    load_dataset(name)
    if "://" not in folder and not Path(folder).is_dir():
        raise FootpathError(f"{folder} is not a folder: link takes the folder of the source files")
    link_source(name, folder)
    echo(f"{name}: files are read from {source_folder(name)}")


@app.command("enable")
def enable_dataset(name: str) -> None:
    """Load a data set into Dagster.

    Example: footpath datasets enable ml-100k
    """
    load_dataset(name)
    enable(name)
    echo(f"{name}: enabled; a UI that is open shows it after Deployment, Reload definitions")


@app.command("disable")
def disable_dataset(name: str) -> None:
    """Load a data set no longer; its tables and runs stay.

    Example: footpath datasets disable shop
    """
    load_dataset(name)
    enable(name, enabled=False)
    echo(f"{name}: disabled; a UI that is open drops it after Deployment, Reload definitions")


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of a data set's YAML: editors complete by it.

    A YAML of another folder: footpath datasets schema > schema.json, and as its first line
    # yaml-language-server: $schema=schema.json
    """
    echo(schema_text().rstrip())


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="a data set's YAML")],
    data: Annotated[str, typer.Option(help="its source folder, if it was not linked")] = "",
    rows: Annotated[int, typer.Option(min=1, help="how many events to show")] = 10,
) -> None:
    """Validate a data set's YAML and show what a sample of each of its files would become.

    Exit code 1 where a run would stop, or leave a file or a day out.
    """
    from features.drafts.column_uses import column_uses
    from features.drafts.findings import Finding, findings
    from features.drafts.preview import preview
    from orchestration.cli.terminal import show_findings, show_preview, show_uses

    dataset = load_checked(file)
    found = preview(dataset, data or source_folder(dataset.name), rows, _gate(dataset))
    show_preview(dataset, found)
    show_uses(column_uses(dataset))
    told = [*findings(dataset, found), *map(Finding, _todos(file))]
    show_findings(told)
    if fails := sum(finding.fails for finding in told):
        raise FootpathError(f"{file}: {fails} of these would fail in a run (marked with x)")


def load_checked(file: Path) -> Dataset:
    """Loads a data set's YAML, all SQL and rules in it bound.

    Raises:
      FootpathError: something in it is wrong: file, line, field, reason.
    """
    from features.drafts.sql_faults import check_sql
    from validation.table_rules import events_audit

    def check_all(dataset: Dataset) -> None:
        check_sql(dataset)
        events_audit(dataset)

    return load_dataset_file(file, check_all)


def _gate(dataset: Dataset) -> "Gate":
    """Rules that the gate will hold an event to, as far as a sample can tell."""
    from features.drafts.preview import Gate
    from validation.table_rules import events_audit

    audit = events_audit(dataset)
    # Known only when a day is built: its bounds, and the ids that content gives.
    unknown = {"day_start", "day_end"}
    rules = {
        rule.name: rule.broken
        for rule in audit.rules
        if not any(word in rule.broken for word in unknown)
        and not (rule.column == "event_id" and dataset.events.event_id is None)
    }
    columns = {column: sql for column, sql in audit.columns.items() if column not in unknown}
    return Gate(columns, rules)


def _todos(file: Path) -> list[str]:
    """Returns what a draft still asks of a person."""
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
    marked = ((number, line.strip()) for number, line in lines)
    return [
        f"{file.name}:{number}: {line.removeprefix('# ')}"
        for number, line in marked
        if line.startswith("# TODO")
    ]
