"""What looks wrong in a preview: one sentence each, with what to do.

In:  a data set and what a sample of it would become (preview.py). Out: sentences, the
worst first. None of them stops anything: the gate will, where it must.
"""

from collections.abc import Iterator

from contracts.base.clock import day_window
from contracts.config.dataset import Dataset
from features.drafts.preview import Preview
from features.ingestion.mapping import OUT_OF_RANGE, UNDATED, UNREADABLE

# Fewer events than this say nothing of their kind.
ENOUGH = 20


def findings(dataset: Dataset, sample: Preview) -> list[str]:
    """Returns a sentence for each thing that a person should look at."""
    return [
        *_refused(dataset, sample),
        *_actions(dataset, sample),
        *_broken(dataset, sample),
        *_fields(dataset, sample),
        *_shape(sample),
    ]


def _refused(dataset: Dataset, sample: Preview) -> Iterator[str]:
    advice = {
        UNREADABLE: "mend landing.columns or csv, or ask the source for rows that can be read",
        UNDATED: "mend events.timestamp",
        OUT_OF_RANGE: "mend partitions, or events.timestamp",
    }
    first = {row["broken"]: row for row in reversed(sample.refused.to_pylist())}
    for rule, count in sample.refused_by.items():
        example = f" (line {first[rule]['source_line']}: {first[rule]['detail']})"
        where = example if rule in first else ""
        yield f"{_of(count, sample.rows)} rows are refused as {rule}{where}: {advice[rule]}."
    if OUT_OF_RANGE in sample.refused_by and sample.span:
        start, end = dataset.partitions.start, dataset.partitions.end
        low, high = sample.span
        if low < day_window(start, dataset.timezone)[0]:
            yield f"The sample begins on {low:%Y-%m-%d}, and partitions.start is {start}."
        if end and high >= day_window(end, dataset.timezone)[1]:
            yield f"The sample ends on {high:%Y-%m-%d}, and partitions.end is {end}."


def _actions(dataset: Dataset, sample: Preview) -> Iterator[str]:
    declared = set(dataset.actions)
    odd = {action: count for action, count in sample.actions.items() if action not in declared}
    if odd:
        shown = ", ".join(f"'{action}' ({count:,})" for action, count in list(odd.items())[:8])
        more = f" and {len(odd) - 8} more" if len(odd) > 8 else ""
        yield (
            f"{_of(sum(odd.values()), _events(sample))} events have an action that `actions` does "
            f"not list: {shown}{more}. Add them, or map them to others in events.action."
        )
    unseen = [action for action in dataset.actions if action not in sample.actions]
    if unseen and _events(sample) >= ENOUGH:
        yield f"`actions` lists {', '.join(unseen)}, which the sample does not have."


def _broken(dataset: Dataset, sample: Preview) -> Iterator[str]:
    for rule, count in sample.broken_by.items():
        if rule != "action_known":  # told above, by action
            yield f"{_of(count, _events(sample))} events break the rule {rule}: to quarantine."
    broken, limit = sample.broken_rows, dataset.quality.max_broken_share
    if broken > limit * max(_events(sample), 1):
        yield (
            f"{broken / _events(sample):.0%} of events break a rule, and quality.max_broken_share "
            f"is {limit:.0%}: a day like this sample would stop."
        )


def _fields(dataset: Dataset, sample: Preview) -> Iterator[str]:
    if not _events(sample):
        yield "No row becomes an event."
        return
    for field in ("event_id", "item_id", "value", "session_id"):
        if getattr(dataset.events, field) and sample.null_shares[field] == 1:
            yield f"events.{field} is null in every event: mend it, or leave it out."
    repeated = round(_events(sample) * (1 - sample.null_shares["event_id"]))
    repeated -= sample.distinct["ids"]
    if repeated > 0:
        yield (
            f"{_of(repeated, _events(sample))} events have the event_id of another of their day "
            "and would count as its repeats: is events.event_id the id of one event?"
        )


def _shape(sample: Preview) -> Iterator[str]:
    events, users = _events(sample), sample.distinct["users"]
    if events < ENOUGH:
        return
    if sample.distinct["moments"] == 1:
        yield "All events are at one moment, so there are no sessions: mend events.timestamp."
    elif sample.is_midnight:
        yield (
            "Every event is at midnight: the source has days and no times, or events.timestamp "
            "drops them. What lies on one day will be one session."
        )
    if users == 1:
        yield "All events are one user's: mend events.user_id."
    elif users >= 0.95 * events:
        yield (
            f"{events:,} events have {users:,} users, about one each: is events.user_id the user, "
            "or the id of something that happens once?"
        )


def _events(sample: Preview) -> int:
    return sample.rows - sample.refused_rows


def _of(count: int, total: int) -> str:
    share = count / max(total, 1)
    shown = f"{share:.1%}" if 0.001 <= share < 1 else ("all" if share == 1 else "under 0.1%")
    return f"{count:,} of {total:,} ({shown})"
