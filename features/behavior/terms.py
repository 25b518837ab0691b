"""Behavior features and what their formulas are made of: sums with measures over windows.

A term is a formula that knows which measures (`measures.py`) it needs, so that only those are
computed that some feature asks for. A feature is a term with a name, a kind and a meaning.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from features.behavior.measures import ENTROPY_UNITS, Measure

if TYPE_CHECKING:
    import ibis.expr.types as ir

# A share of the squares below which a spread is rounding, not data: sums are integers, and what is
# left are three roundings of 1.1e-16. Two pauses of eight days that differ by a second are data.
ALIKE = 1e-14


@dataclass(frozen=True)
class Term:
    """A formula over `<measure>_<days>` columns, and the instant `ends` of each row."""

    needs: frozenset[Measure]
    formula: "Callable[[ir.Table], ir.Value]"


@dataclass(frozen=True)
class FeatureField:
    """One behavior feature: a column without nulls, 0 or '' where a user has nothing."""

    name: str
    kind: str  # int64, float64 or string
    description: str
    term: Term = field(repr=False, compare=False)


def total(measure: str, days: int) -> Term:
    """A measure as it is."""
    return Term(frozenset({(measure, days)}), lambda rows: rows[f"{measure}_{days}"])


def ratio(part: Term, whole: Term, smoothing: float = 0) -> Term:
    """Returns part / (whole + smoothing); 0 where the whole is not above 0."""

    def formula(rows: "ir.Table") -> "ir.Value":
        below = whole.formula(rows).cast("float64")
        return (below > 0).ifelse(part.formula(rows).cast("float64") / (below + smoothing), 0.0)

    return Term(part.needs | whole.needs, formula)


def summed(terms: list[Term]) -> Term:
    """The sum of integer terms."""
    return Term(
        frozenset().union(*(term.needs for term in terms)),
        lambda rows: functools.reduce(operator.add, (term.formula(rows) for term in terms)),
    )


def or_zero(term: Term) -> Term:
    """The term, and 0 where there is none."""
    return Term(term.needs, lambda rows: term.formula(rows).fill_null(0))


def hours_since(last: str, days: int, per: float = 1.0, cap: float | None = None) -> Term:
    """The time from an instant to the row's end, in units of `per` hours; 0 without."""
    instant = f"{last}_{days}"

    def formula(rows: "ir.Table") -> "ir.Value":
        import ibis

        # A float first: Spark takes 3.6e9 for a decimal.
        since = rows.ends.delta(rows[instant], unit="microsecond").cast("float64") / (3.6e9 * per)
        since = since.fill_null(0.0)  # before the cap: `least` of nothing and a cap is the cap
        return since if cap is None else ibis.least(since, float(cap))

    return Term(frozenset({(last, days)}), formula)


def daily_change(of: str, short: int, long: int, form: str) -> Term:
    """Returns events a day in a short window over, or less, those in a long one."""
    recent, usual = total(of, short), total(of, long)

    def formula(rows: "ir.Table") -> "ir.Value":
        new = recent.formula(rows).cast("float64") / short
        old = usual.formula(rows).cast("float64") / long
        return new - old if form == "difference" else (old > 0).ifelse(new / old, 0.0)

    return Term(recent.needs | usual.needs, formula)


def deviation(count: Term, sums: Term, squares: Term) -> Term:
    """The standard deviation (of the population); 0 where all are alike."""

    def formula(rows: "ir.Table") -> "ir.Value":
        import ibis

        # At least 1, for Spark may divide before it looks at the condition.
        number = ibis.greatest(count.formula(rows).cast("float64"), 1.0)
        mean = sums.formula(rows).cast("float64") / number
        square = squares.formula(rows).cast("float64") / number
        variance = square - mean * mean
        varies = (number > 1) & (variance > square * ALIKE)
        return varies.ifelse(varies.ifelse(variance, 0.0).sqrt(), 0.0)

    return Term(count.needs | sums.needs | squares.needs, formula)


def category_entropy(days: int) -> Term:
    """Returns ln(N) - sum(count * ln(count)) / N, rounded to what the integers carry."""
    names = [(name, days) for name in ("events", "spread", "categories")]

    def formula(rows: "ir.Table") -> "ir.Value":
        events, spread, categories = (rows[f"{name}_{days}"] for name, _ in names)
        number = events.cast("float64")
        value = (number.ln() - spread / ENTROPY_UNITS / number).round(6)
        return ((number > 0) & (categories > 1)).ifelse(value, 0.0)

    return Term(frozenset(names), formula)


def entropy(parts: list[Term]) -> Term:
    """The entropy in nats of counts that add up to all; 0 where one has them all."""
    whole = summed(parts)

    def formula(rows: "ir.Table") -> "ir.Value":
        import ibis

        number = ibis.greatest(whole.formula(rows).cast("float64"), 1.0)  # as in `deviation`
        counts = [part.formula(rows).cast("float64") for part in parts]
        spread = functools.reduce(
            operator.add, (count * ibis.greatest(count, 1.0).ln() for count in counts)
        )
        value = (number.ln() - spread / number).round(6)
        return (value > 0).ifelse(value, 0.0)

    return Term(whole.needs, formula)


def top_category(place: int, names: list[str], days: int) -> tuple[Term, Term]:
    """The name of the category with the place-th most events, and its share of all events.

    Ties go to the one that is declared first. Name '' and share 0 where there are not so many.
    """
    needs = frozenset((f"category_{n}", days) for n in range(len(names)))
    many = len(names)

    def ranked(rows: "ir.Table") -> "ir.Value":
        import ibis

        # Count and name as one integer: sorting needs nothing that engines do differently.
        codes = [rows[f"category_{n}_{days}"] * many + (many - 1 - n) for n in range(many)]
        return ibis.array(codes).sort()[many - place]

    def name(rows: "ir.Table") -> "ir.Value":
        import ibis

        code = ranked(rows)
        known = ibis.cases(*((code % many == many - 1 - n, text) for n, text in enumerate(names)))
        return (code >= many).ifelse(known, "")

    def share(rows: "ir.Table") -> "ir.Value":
        events = rows[f"events_{days}"].cast("float64")
        return (events > 0).ifelse((ranked(rows) // many).cast("float64") / events, 0.0)

    return Term(needs, name), Term(needs | {("events", days)}, share)
