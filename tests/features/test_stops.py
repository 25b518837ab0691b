"""Many days that were stopped are few sentences, with how many they are."""

import datetime as dt

from features.stops import together

FIRST = dt.date(2026, 1, 5)


def days(count: int, step: int = 1, since: int = 0) -> list[dt.date]:
    return [FIRST + dt.timedelta(days=since + n * step) for n in range(count)]


def test_a_tail_of_days_that_stop_alike_is_one_sentence_with_their_number():
    reasons = {day: f"events {day}: there are no rows: land the files" for day in days(57)}
    assert together(reasons) == (
        "events 2026-01-05 to 2026-03-02 (57 days): there are no rows: land the files"
    )
    reasons = {day: f"events {day}: there are no rows" for day in days(3, step=7)}
    assert together(reasons) == "events 3 days from 2026-01-05 to 2026-01-19: there are no rows"


def test_days_that_differ_by_numbers_are_told_by_the_first_and_their_number():
    reasons = {
        day: f"events {day}: {n + 3:,} of 1,200 rows are broken; such as x in line {n}"
        for n, day in enumerate(days(9))
    }
    assert together(reasons) == (
        "events 2026-01-05: 3 of 1,200 rows are broken; such as x in line 0; "
        "and 8 more days up to 2026-01-13 alike"
    )


def test_a_day_alone_and_days_of_other_reasons_keep_their_sentences():
    reasons = {day: f"events {day}: there are no rows" for day in days(2)}
    bad = FIRST + dt.timedelta(days=9)
    assert together(reasons | {bad: f"events {bad}: 3 of 4 rows are broken"}) == (
        "events 2026-01-05 to 2026-01-06 (2 days): there are no rows; "
        "events 2026-01-14: 3 of 4 rows are broken"
    )
    assert together({}) == ""
