"""Behavior features and what their formulas are made of: sums with measures over windows.

A term is a formula that knows which measures (`measures.py`) it needs, so that only those are
computed that some feature asks for. Its definition is the same formula as plain data; published
days keep a hash of it (`meanings.py`), so that it changes only where values may. A feature is a
term with a name, a kind and a description.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from features.behavior.measures import ENTROPY_UNITS, Measure

if TYPE_CHECKING:
    import ibis.expr.types as ir

# A share of the squares below which a spread is rounding, not data: sums are integers, and what is
# left are three roundings of 1.1e-16. Two pauses of eight days that differ by a second are data.
ALIKE = 1e-14

# The definition of a plain total is this word, the measure and the window.
TOTAL = "total"

# What is computed, of what, with which windows and parameters: a word, then definitions, strings,
# numbers, and lists of names.
Definition = tuple


@dataclass(frozen=True)
class Term:
    """A formula over `<measure>_<days>` columns, and the instant `ends` of each row."""

    needs: frozenset[Measure]
    formula: "Callable[[ir.Table], ir.Value]"
    definition: Definition
    is_nullable: bool = True  # counts and sums are not: those of nothing are 0


@dataclass(frozen=True)
class FeatureField:
    """One behavior feature, which is a column."""

    name: str
    kind: str  # int64, float64 or string
    description: str
    term: Term = field(repr=False, compare=False)

    @property
    def of_nothing(self) -> int | None:
        """The value for a user without events and sessions."""
        return None if self.term.is_nullable else 0


def total(measure: str, days: int) -> Term:
    """A count or sum as it is."""
    needs = frozenset({(measure, days)})
    definition = (TOTAL, measure, days)
    return Term(needs, lambda rows: rows[f"{measure}_{days}"], definition, is_nullable=False)


def largest(measure: str, days: int) -> Term:
    """A maximum as it is; null of nothing."""
    return replace(total(measure, days), is_nullable=True)


def where_any(count: Term, term: Term) -> Term:
    """A term; null where the count is 0."""

    def formula(rows: "ir.Table") -> "ir.Value":
        return _where_any(count.formula(rows), term.formula(rows))

    definition = ("where_any", count.definition, term.definition)
    return Term(count.needs | term.needs, formula, definition)


def _where_any(count: "ir.Value", value: "ir.Value") -> "ir.Value":
    import ibis

    return (count > 0).ifelse(value, ibis.null(value.type()))


def ratio(part: Term, whole: Term, smoothing: float = 0) -> Term:
    """Returns part / (whole + smoothing); null where the whole is not above 0."""

    def formula(rows: "ir.Table") -> "ir.Value":
        below = whole.formula(rows).cast("float64")
        return _where_any(below, part.formula(rows).cast("float64") / (below + smoothing))

    # A whole number in the YAML's defaults, a float where the YAML gives it: one definition.
    definition = ("ratio", part.definition, whole.definition, float(smoothing))
    return Term(part.needs | whole.needs, formula, definition)


def summed(terms: list[Term]) -> Term:
    """The sum of integer terms."""
    return Term(
        frozenset().union(*(term.needs for term in terms)),
        lambda rows: functools.reduce(operator.add, (term.formula(rows) for term in terms)),
        ("sum", *(term.definition for term in terms)),
        is_nullable=False,
    )


def hours_since(last: str, days: int, per: float = 1.0, cap: float | None = None) -> Term:
    """The time from an instant to the row's end, in units of `per` hours; null without."""
    instant = f"{last}_{days}"

    def formula(rows: "ir.Table") -> "ir.Value":
        # A float first: Spark takes 3.6e9 for a decimal.
        since = rows.ends.delta(rows[instant], unit="microsecond").cast("float64") / (3.6e9 * per)
        # Not `least`, which takes the cap where there is nothing.
        return since if cap is None else (since > cap).ifelse(float(cap), since)

    return Term(frozenset({(last, days)}), formula, ("since", last, days, float(per), cap))


def daily_change(of: str, short: int, long: int, form: str) -> Term:
    """Returns events a day in a short window over, or less, those in a long one.

    A difference of nothing is 0, a ratio to nothing is null.
    """
    recent, usual = total(of, short), total(of, long)

    def formula(rows: "ir.Table") -> "ir.Value":
        new = recent.formula(rows).cast("float64") / short
        old = usual.formula(rows).cast("float64") / long
        return new - old if form == "difference" else _where_any(old, new / old)

    definition = ("daily_change", recent.definition, usual.definition, form)
    return Term(recent.needs | usual.needs, formula, definition, is_nullable=form != "difference")


def deviation(count: Term, sums: Term, squares: Term) -> Term:
    """The standard deviation (of the population); 0 where all are alike, null of nothing."""

    def formula(rows: "ir.Table") -> "ir.Value":
        import ibis

        # At least 1, for Spark may divide before it looks at the condition.
        known = count.formula(rows).cast("float64")
        number = ibis.greatest(known, 1.0)
        mean = sums.formula(rows).cast("float64") / number
        square = squares.formula(rows).cast("float64") / number
        variance = square - mean * mean
        varies = (number > 1) & (variance > square * ALIKE)
        return _where_any(known, varies.ifelse(varies.ifelse(variance, 0.0).sqrt(), 0.0))

    definition = ("deviation", count.definition, sums.definition, squares.definition)
    return Term(count.needs | sums.needs | squares.needs, formula, definition)


def category_entropy(days: int) -> Term:
    """Returns ln(N) - sum(count * ln(count)) / N, rounded to what the integers carry.

    N are the events with a category: 0 where all have one category, null where none has any.
    """
    names = [(name, days) for name in ("categorized", "spread", "categories")]

    def formula(rows: "ir.Table") -> "ir.Value":
        categorized, spread, categories = (rows[f"{name}_{days}"] for name, _ in names)
        number = categorized.cast("float64")
        value = (number.ln() - spread / ENTROPY_UNITS / number).round(6)
        return _where_any(number, (categories > 1).ifelse(value, 0.0))

    return Term(frozenset(names), formula, ("category_entropy", days))


def entropy(parts: list[Term]) -> Term:
    """The entropy in nats of counts that add up to all; 0 if one has them all, null of nothing."""
    whole = summed(parts)

    def formula(rows: "ir.Table") -> "ir.Value":
        import ibis

        known = whole.formula(rows).cast("float64")
        number = ibis.greatest(known, 1.0)  # as in `deviation`
        counts = [part.formula(rows).cast("float64") for part in parts]
        spread = functools.reduce(
            operator.add, (count * ibis.greatest(count, 1.0).ln() for count in counts)
        )
        value = (number.ln() - spread / number).round(6)
        return _where_any(known, (value > 0).ifelse(value, 0.0))

    definition = ("entropy", *sorted(part.definition for part in parts))
    return Term(whole.needs, formula, definition)


def top_category(place: int, names: list[str], days: int) -> tuple[Term, Term]:
    """The name of the category with the place-th most events, and its share of those with one.

    Ties go to the one that is declared first. Both are null where there are not so many.
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
        return (code >= many).ifelse(known, ibis.null("string"))

    def share(rows: "ir.Table") -> "ir.Value":
        count = (ranked(rows) // many).cast("float64")
        return _where_any(count, count / rows[f"categorized_{days}"].cast("float64"))

    definition = (place, [*names], days)
    return (
        Term(needs, name, ("top_category", *definition)),
        Term(needs | {("categorized", days)}, share, ("top_category_share", *definition)),
    )
