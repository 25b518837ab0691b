"""Tasks that any log can answer, as lines of a draft: what there is to learn before anyone asks.

In:  what was guessed of a sample, and where its files lie. Out: the YAML's `tasks`; none about the
future where the sample is too short to have one.
"""

from collections.abc import Iterator

from features.drafts.guessing.rows import Rows
from features.drafts.source.paths import Address
from features.drafts.yaml_lines import TODO

# Days that a sample spans at least -> how many days ahead its users are asked about.
_HORIZONS = {180: 30, 14: 7, 3: 1}
_MANY_FILES = 7  # the span of their days is not known
_SNAPSHOTS = 4  # better with few labels, and nowhere worse (docs/results.md)


def task_lines(rows: Rows, where: Address) -> Iterator[str]:
    """Asks who comes back, who buys, and what comes next, as far as the rows tell of it."""
    horizon, lines = _horizon(rows, where), []
    if horizon and (where.found > 1 or _come_back(rows)):
        lines.append(
            f"  - {{name: returns_{horizon}d, sql: count(*) > 0, horizon_days: {horizon}, "
            f"snapshots: {_SNAPSHOTS}, metric: auc}}"
        )
        if "purchase" in rows.actions and len(rows.actions) > 1:
            lines += [
                f"  - name: purchase_{horizon}d",
                "    sql: count(*) FILTER (action = 'purchase') > 0",
                f"    horizon_days: {horizon}",
                f"    snapshots: {_SNAPSHOTS}",
                "    metric: auc",
            ]
    if rows.has_time and {"user_id", "item_id"} <= rows.fields.keys():  # of any span
        lines.append("  - {name: next_item, kind: ranking, holdout: 1, metric: recall@10}")
    if lines:
        yield ""
        yield f"{TODO} what do you want to know of a user? Any log answers these questions."
        yield "tasks:"
        yield from lines


def _horizon(rows: Rows, where: Address) -> int:
    """How many days ahead; 0 where there is no time, or too little of it."""
    if not rows.has_time or not rows.span:
        return 0
    if where.is_dated or where.found > 1:
        return _MANY_FILES
    days = (rows.span.last - rows.span.first).days
    return next((horizon for least, horizon in _HORIZONS.items() if days >= least), 0)


def _come_back(rows: Rows) -> bool:
    """Whether any user of the sample is there on two days: where none is, nobody ever returns."""
    if "user_id" not in rows.fields:
        return False
    user, time = rows.fields["user_id"].sql, rows.fields["timestamp"].sql
    (most,) = rows.connection.sql(
        f"SELECT max(days) FROM (SELECT count(DISTINCT t::DATE) AS days FROM "
        f"(SELECT ({user}) AS u, TRY({time})::TIMESTAMPTZ AS t FROM {rows.typed}) GROUP BY u)"
    ).fetchall()[0]
    return (most or 0) > 1
