"""A message has the form that its receiver takes, a bounded length, and no mark-up of the data."""

import json

from orchestration.alerts.alert import Alert
from orchestration.alerts.messages import LINES, as_slack, as_teams, as_text, message_of

FAILED = Alert("run_failed", "shop_daily of 2026-01-05", "a <b> & *c* failed", "k", "http://ui/1")
STOPPED = Alert("day_stopped", "events of 2026-01-06", "5 rows break action_known", "s")


def test_slack_takes_one_text_with_links_and_without_mark_up_of_the_data():
    hostile = Alert("run_failed", "x", "<!channel> & <https://evil|here>", "k")
    text = as_slack(message_of("Shop", [FAILED, hostile], [], [STOPPED]))["text"]
    assert text.splitlines() == [
        "*Shop: 2 x run failed, 1 recovered*",
        "• *Run failed: shop_daily of 2026-01-05*: a &lt;b&gt; &amp; *c* failed <http://ui/1|Look>",
        "• *Run failed: x*: &lt;!channel&gt; &amp; &lt;https://evil|here&gt;",
        "• *Recovered: events of 2026-01-06*: was: Day stopped",
    ]


def test_teams_takes_an_adaptive_card_in_a_message_of_attachments():
    message = as_teams(message_of("Shop", [FAILED], [], []))
    (attachment,) = message["attachments"]
    card = attachment["content"]
    assert message["type"] == "message"
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    title, line = card["body"]
    assert title["inlines"][0]["text"] == "Shop: run failed"
    assert [run["text"] for run in line["inlines"]] == [
        "Run failed: shop_daily of 2026-01-05: ", "a <b> & *c* failed", " ", "Look",
    ]  # fmt: skip
    assert line["inlines"][3]["selectAction"] == {"type": "Action.OpenUrl", "url": "http://ui/1"}


def test_many_alerts_are_one_bounded_message_that_counts_the_rest():
    long = "word " * 1000
    many = [Alert("data_missing", f"day {n}", long, str(n)).shown() for n in range(300)]
    message = message_of("Shop", many, [], [])
    assert message.title == "Shop: 300 x data missing"
    assert (len(message.lines), message.more) == (LINES, "and 280 more")
    assert len(json.dumps(as_teams(message))) < 21_000
    assert as_slack(message)["text"].endswith("and 280 more")
    assert as_text(message).rstrip().endswith("and 280 more")
