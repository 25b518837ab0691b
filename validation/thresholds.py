"""Why a day stops: what was counted in it held against what its table allows, in sentences.

In:  counts of a day, and its figures with their bounds. Out: sentences that say what lies beyond
which threshold, and of the worst rules an example of a row.
"""

import datetime as dt

from validation.bounds import Bound, DayFrame
from validation.counts import AuditedDays, DayCounts
from validation.table_rules import Audit

# Parts a sentence from the value that it shows.
EXAMPLE = ", such as "


def shares_of(audit: Audit, counts: DayCounts) -> dict[str, float]:
    """Returns the figures of a day that its table's own thresholds are about."""
    rows = max(counts.rows, 1)
    shares = {f"share of {rule}": counts.broken.get(rule, 0) / rows for rule in audit.rule_shares}
    repeated = counts.broken.get(audit.unique_rule, 0)
    return shares | {"broken share": counts.broken_rows / rows, "repeated keys": float(repeated)}


def share_bounds(audit: Audit) -> list[Bound]:
    """Returns the table's own thresholds."""
    key = " and ".join(audit.unique)
    whole = [
        Bound("broken share", audit.max_broken_share, True, "the share of rows that break a rule"),
        Bound("repeated keys", 0, True, f"rows that share their {key} with another row of the day"),
    ]
    return whole + [
        Bound(f"share of {rule}", most, True, f"the share of rows that break {rule}")
        for rule, most in audit.rule_shares.items()
    ]


def told(audit: Audit, frame: DayFrame, day: dt.date, bound: Bound) -> str:
    """Says which bound a day lies beyond, in a sentence."""
    kind = "stop" if bound.stops else "warn"
    return (
        f"{audit.table} {day}: {bound.sentence} is {frame.figures[day][bound.figure]:.3g}, and "
        f"{bound.most:g} may be (quality.profile.{bound.figure.partition('.')[0]}.{kind})"
    )


def failures_of(audit: Audit, day: dt.date, counts: DayCounts) -> list[str]:
    """Returns why a day stops, in sentences; none if it passes."""
    where = f"{audit.table} {day}"
    if not counts.rows and not audit.may_be_empty:
        return [
            f"{where} has no rows: no landing file that was read has an event of this day; "
            f"land the files, or set quality.allow_empty_days if the source has such days"
        ]
    failures = []
    if repeated := counts.broken.get(audit.unique_rule):
        key = " and ".join(audit.unique)
        failures.append(f"{where}: {repeated:,} rows share their {key} with another row")
    share = counts.broken_rows / counts.rows if counts.rows else 0
    if share > audit.max_broken_share or share == 1:
        allowed = f", and {audit.max_broken_share:.1%} may be" if audit.max_broken_share else ""
        failures.append(
            f"{where}: {counts.broken_rows:,} of {counts.rows:,} rows are broken "
            f"({share:.1%}{allowed})"
        )
    failures += [
        f"{where}: {counts.broken[rule]:,} of {counts.rows:,} rows break {rule} "
        f"({counts.broken[rule] / counts.rows:.2%}, and {most:.2%} may)"
        for rule, most in audit.rule_shares.items()
        if counts.broken.get(rule, 0) > most * counts.rows
    ]
    return failures


def examples_of(rows: AuditedDays, day: dt.date, counts: DayCounts) -> list[str]:
    """Names the rules that the most rows of a stopped day break, each with an example."""
    rules = {rule.name: rule for rule in rows.audit.rules}
    worst = sorted(((n, name) for name, n in counts.broken.items() if name in rules), reverse=True)
    return [
        f"{rules[name].sentence} ({name}): {n:,} rows of {day}{EXAMPLE}{rows.example(day, name)}"
        for n, name in worst[:3]
    ]
