"""Findings: a sentence for each thing in a preview to look at, with what to do."""

from collections.abc import Iterator
from dataclasses import dataclass

from contracts.base.clock import day_window
from contracts.config.dataset import Dataset
from features.drafts.preview import ENOUGH, Preview
from features.ingestion.mapping import OUT_OF_RANGE, TOO_LATE, UNDATED, UNREADABLE

# A user with this share of all events, and so many times the mean, is hardly one person.
LARGE_SHARE, TIMES_MEAN = 0.1, 5

# Files of which it is told why they cannot be used.
SHOWN_FAULTS = 5


@dataclass(frozen=True)
class Finding:
    """Something to look at; with `fails`, a run would stop, or leave a file or a day out."""

    text: str
    fails: bool = False


def findings(dataset: Dataset, preview: Preview) -> list[Finding]:
    """What a person should look at; what fails comes first."""
    found = [
        *_refused(dataset, preview),
        *_actions(dataset, preview),
        *_broken_rules(dataset, preview),
        *_fields(dataset, preview),
        *map(Finding, _shape(preview)),
        *map(Finding, _ids(dataset, preview)),
        *_coverage(preview),
    ]
    return [*_faults(preview), *sorted(found, key=lambda finding: not finding.fails)]


def _faults(preview: Preview) -> Iterator[Finding]:
    """The files that landing would refuse."""
    faults, looked_at = preview.faults, preview.looked_at
    for fault in faults[:SHOWN_FAULTS]:
        yield Finding(fault, fails=True)
    if 1 < looked_at > len(faults) > 0:
        yield Finding(
            f"{_of(len(faults), looked_at)} files cannot be used, the others can: a column that "
            "only some files have is listed in landing.optional; files of another layout need a "
            "landing.url that leaves them out, and a data set of their own.",
            fails=True,
        )
    elif len(faults) > SHOWN_FAULTS:
        yield Finding(f"None of the {len(faults):,} files can be used.", fails=True)


def _refused(dataset: Dataset, preview: Preview) -> Iterator[Finding]:
    advice = {
        UNREADABLE: "fix landing.columns, csv or the expression that is named, "
        "or ask the source for rows that can be read",
        UNDATED: "fix events.timestamp",
        OUT_OF_RANGE: "fix partitions, or events.timestamp",
        TOO_LATE: "raise lateness.allowed_days, or fix events.timestamp",
    }
    looked_at = preview.looked_at
    first = {row["broken"]: row for row in reversed(preview.refused.to_pylist())}
    for rule, (count, files) in preview.refused_by.items():
        where = ""
        if row := first.get(rule):
            file = f"{row['source_file']} " if looked_at > 1 else ""
            where = f" ({file}line {row['source_line']}: {row['detail']})"
        spread = f", in {files:,} of {looked_at:,} files," if looked_at > 1 else ""
        yield Finding(
            f"{_of(count, preview.rows)} rows{spread} are refused as {rule}{where}: {advice[rule]}."
        )
    if OUT_OF_RANGE in preview.refused_by and preview.span:
        start, end = dataset.partitions.start, dataset.partitions.end
        low, high = preview.span
        if low < day_window(start, dataset.timezone)[0]:
            yield Finding(f"The sample begins on {low:%Y-%m-%d}, and partitions.start is {start}.")
        if end and high >= day_window(end, dataset.timezone)[1]:
            yield Finding(f"The sample ends on {high:%Y-%m-%d}, and partitions.end is {end}.")


def _actions(dataset: Dataset, preview: Preview) -> Iterator[Finding]:
    declared = set(dataset.actions)
    odd = {action: count for action, count in preview.actions.items() if action not in declared}
    if odd:
        shown = ", ".join(f"'{action}' ({count:,})" for action, count in list(odd.items())[:8])
        more = f" and {len(odd) - 8} more" if len(odd) > 8 else ""
        yield Finding(
            f"{_of(sum(odd.values()), _events(preview))} events have an action that `actions` does "
            f"not list: {shown}{more}. Add them, or map them to others in events.action."
        )
    unseen = [action for action in dataset.actions if action not in preview.actions]
    if unseen and _events(preview) >= ENOUGH:
        yield Finding(f"`actions` lists {', '.join(unseen)}, which the sample does not have.")


def _broken_rules(dataset: Dataset, preview: Preview) -> Iterator[Finding]:
    quality = dataset.quality
    for rule, count in preview.broken_by.items():
        most = quality.rules.get(rule, 1)
        if count > most * _events(preview):
            yield Finding(
                f"{_of(count, _events(preview))} events break the rule {rule}, and quality.rules "
                f"lets {most:.2%} do so: days like this sample would stop.",
                fails=True,
            )
        elif rule != "action_known":  # told above, by action
            yield Finding(
                f"{_of(count, _events(preview))} events break the rule {rule}: to quarantine."
            )
    stopped = {
        day: (broken, rows)
        for day, (broken, rows) in preview.broken_days.items()
        if rows >= ENOUGH and (broken > quality.max_broken_share * rows or broken == rows)
    }
    if stopped:
        day, (broken, rows) = next(iter(stopped.items()))
        yield Finding(
            f"{len(stopped):,} of {preview.days:,} days of the sample would stop, such as {day}: "
            f"{broken / rows:.0%} of its events break a rule, and quality.max_broken_share is "
            f"{quality.max_broken_share:.0%}.",
            fails=True,
        )


def _fields(dataset: Dataset, preview: Preview) -> Iterator[Finding]:
    if not _events(preview):
        if len(preview.faults) < preview.looked_at:
            yield Finding("No row becomes an event.", fails=True)
        return
    for column in ("event_id", "item_id", "value", "session_id"):
        if getattr(dataset.events, column) and preview.null_shares[column] == 1:
            yield Finding(f"events.{column} is null in every event: fix it, or leave it out.")
    repeated = round(_events(preview) * (1 - preview.null_shares["event_id"]))
    repeated -= preview.distinct["ids"]
    if repeated > 0:
        yield Finding(
            f"{_of(repeated, _events(preview))} events have the event_id of another of their day "
            "and would count as its duplicates: is events.event_id the id of one event?"
        )


def _coverage(preview: Preview) -> Iterator[Finding]:
    """What the catalog and the users table do not have."""
    for section, table in preview.coverage.items():
        one = section.removesuffix("s")
        if table.fault:
            yield Finding(f"{section}: {table.fault}", fails=True)
        elif not table.is_read:
            yield Finding(
                f"The files of {section} are too large to be read here: how many events find "
                f"their {one} there is not known."
            )
        if lost := table.events - table.found:
            (key, count), what = table.missing, "the catalog" if one == "item" else "users"
            yield Finding(
                f"{_of(lost, table.events)} events with {'an' if one == 'item' else 'a'} {one} "
                f"have one that {what} does not know, the most ({count:,}) '{key[:40]}': compare "
                f"events.{one}_id with {section}.{one}_id."
            )
        for field in table.empty:
            yield Finding(f"{field} is null in all rows: fix it, or leave it out.")
        if table.unknown:
            yield Finding(
                f"features.categories lists {', '.join(table.unknown)}, which no item has."
            )


def _shape(preview: Preview) -> Iterator[str]:
    events, users = _events(preview), preview.distinct["users"]
    if events < ENOUGH:
        return
    if preview.distinct["moments"] == 1:
        yield "All events are at one moment, so there are no sessions: fix events.timestamp."
    elif preview.is_midnight:
        yield (
            "Every event is at midnight: the source has days and no times, or events.timestamp "
            "drops them. What lies on one day will be one session."
        )
    if users == 1:
        yield "All events are one user's: fix events.user_id."
    elif users >= 0.95 * events:
        yield (
            f"{events:,} events have {users:,} users, about one each: is events.user_id the user, "
            "or the id of something that happens once?"
        )


def _ids(dataset: Dataset, preview: Preview) -> Iterator[str]:
    for column, word, count in preview.null_words:
        if word not in dataset.landing.nulls:
            yield (
                f"{_of(count, _events(preview))} events have the {column} '{word}': if that means "
                f"none, list it in landing.nulls: [{_yaml_text(word)}]."
            )
    for column, (number, count) in preview.twins.items():
        sql = getattr(dataset.events, column)
        yield (
            f"events.{column} has {count:,} ids both as a whole number and with .0 ({number} and "
            f"{number}.0), which are two: use regexp_replace({sql}, '\\.0$', '') if they are one."
        )
    (user, count), users = preview.largest_user, preview.distinct["users"]
    is_told = ("user_id", user) in {(column, word) for column, word, _ in preview.null_words}
    if _events(preview) < ENOUGH or users < 2 or is_told:
        return
    if count >= max(LARGE_SHARE, TIMES_MEAN / users) * _events(preview):
        yield (
            f"{_of(count, _events(preview))} events are of one user, '{user[:40]}', among "
            f"{users:,}: if that means none, list it in landing.nulls: [{_yaml_text(user)}]."
        )


def _yaml_text(text: str) -> str:
    """A text as YAML reads it back, in one line."""
    return "'" + text.replace("'", "''") + "'"


def _events(preview: Preview) -> int:
    return preview.rows - preview.refused_rows


def _of(count: int, total: int) -> str:
    share = count / max(total, 1)
    shown = f"{share:.1%}" if 0.001 <= share < 1 else ("all" if share == 1 else "under 0.1%")
    return f"{count:,} of {total:,} ({shown})"
