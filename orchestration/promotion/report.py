"""Decisions as people read them: a table, and Dagster's check."""

import dagster as dg

from orchestration.promotion.decision import Decision


def decisions_table(decisions: list[Decision]) -> str:
    """A Markdown table: alias, what it leads to, and what speaks for and against each candidate."""
    rows = ["| alias | leads to | why | candidates |", "|---|---|---|---|"]
    for decision in decisions:
        leads = decision.version or decision.incumbent or "-"
        cells = [decision.alias, leads, decision.reason, "<br>".join(candidate_lines(decision))]
        rows.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(rows)


def candidate_lines(decision: Decision) -> list[str]:
    """A line for each candidate that was looked at."""
    lines = []
    for verdict in decision.verdicts:
        figures = [f"{name} {value:.3g}" for name, value in verdict.figures.items()]
        compared = [
            f"{task} {d.mean:+.4f} ({d.low:+.4f} to {d.high:+.4f})"
            for task, d in verdict.differences.items()
        ]
        what = "refused: " + "; ".join(verdict.faults) if verdict.faults else "may be promoted"
        lines.append(f"{verdict.version} {what} [{'; '.join([*compared, *figures])}]")
    return lines


def promotion_check(decisions: list[Decision]) -> dg.AssetCheckResult:
    """The check of a run: warns where a candidate was refused, or waits for a person."""
    told = [
        f"{decision.alias}: {verdict}"
        for decision in decisions
        for verdict in decision.verdicts
        if verdict.faults
    ]
    told += [f"{d.alias}: {d.waits} waits for approval" for d in decisions if d.waits]
    return dg.AssetCheckResult(
        check_name="promotion",
        passed=not told,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(told) or None,
    )
