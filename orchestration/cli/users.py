"""`footpath users`: who is like whom, and forgetting a user."""

from pathlib import Path
from typing import Annotated

import typer

from contracts.base.errors import FootpathError
from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from orchestration.cli.output import echo

app = typer.Typer(no_args_is_help=True, help="Look at users, and forget them.")

DatasetOption = Annotated[str, typer.Option("--dataset", help="its name in datasets/")]


@app.command("similar")
def similar(
    user_id: str,
    dataset: DatasetOption = "shop",
    k: Annotated[int, typer.Option("-k", min=1, help="how many")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option(help="ATTRIBUTE=VALUE of the users table; one attribute again: either value"),
    ] = None,
) -> None:
    """List the users most like a given one, by cosine of their embeddings.

    An id that begins with a dash comes last: footpath users similar --dataset shop -- -12
    """
    from features.store.similar import parse_filters, similar_users

    load_dataset(dataset)
    filters = parse_filters(where or [])
    found = similar_users(Lake.of(dataset), user_id, k=k, filters=filters)
    if filters and not found:
        raise FootpathError(f"no other user with an embedding has {' and '.join(where or [])}")
    for other, cosine in found:
        echo(f"{cosine:6.3f}  {other}")


@app.command("forget")
def forget(
    ids: Annotated[list[str] | None, typer.Argument(help="as they stand in user_id")] = None,
    dataset: DatasetOption = "shop",
    file: Annotated[Path | None, typer.Option(help="a text file with an id a line")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what is known of them")
    ] = False,
    online_is_done: Annotated[
        bool, typer.Option("--online-is-done", help="their online rows were deleted by hand")
    ] = False,
) -> None:
    """Remove every trace of users, and drop them whenever source files bring them again.

    FOOTPATH_FORGET_KEY keys the list of who is dropped, which holds hashes alone. Models that were
    trained on them and source files that hold them are named, and not touched. Stopped halfway, the
    same command goes on.

    Example: footpath users forget u00000042 --dataset shop --dry-run
    """
    from orchestration.forgetting.forget import forget as forget_users
    from orchestration.forgetting.ids import Ids
    from orchestration.instance import open_instance

    config, wanted = load_dataset(dataset), Ids([*(ids or ()), *_listed(file)])
    with open_instance() as instance:
        done = forget_users(config, Lake.of(dataset), instance, wanted, dry_run, online_is_done)
    for line in done.lines:
        echo(f"{line.objects:>9,} objects {line.rows:>12,} rows  {line.place}")
    for version in done.sources.versions:
        echo(f"trained on them, and not touched: model version {version}")
    for path in done.sources.files:
        echo(f"holds them, and is not touched: source file {path}")
    for version in done.indexes:
        echo(f"similar users of {version} are indexed again")
    if any(line.place == "sequences" for line in done.lines):
        echo("training sequences go whole: materialize training_sequences before the next training")
    what = "would be forgotten" if dry_run else "forgotten"
    nowhere = "" if done.lines else "; nothing was known of them"
    echo(f"{len(wanted.ids):,} users {what}{nowhere}")


def _listed(file: Path | None) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8") if file else ""
    except UnicodeDecodeError as error:
        raise FootpathError(f"{file} is not UTF-8 text ({error}): write an id a line") from None
    return [line for line in text.splitlines() if line]
