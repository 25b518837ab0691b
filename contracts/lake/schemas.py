"""Arrow schemas of the tables that the rooms of the house hand each other.

All timestamps are microseconds in UTC: nanoseconds break Feast's DuckDB store.
"""

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")

# Keys in the footers of published objects: what a day was built from (features/provenance.py), and
# for events how many rows there were before the gate, so that what was lost could be told.
BUILT_FROM = b"footpath.built_from"
# Of BUILT_FROM in a day of behavior features: each feature that was built, and a hash of what it
# means. Columns that are not among them hold what the day's rows of before had.
FEATURES = "features"
ROWS_STAGED = b"footpath.rows_staged"
# Of head features: the view of the feature store that their columns are of.
VIEW = b"footpath.view"
# Of embeddings: hash of all that vectors follow from beside the events and the weights.
READ_WITH = b"footpath.read_with"
# Of labels: the last events of each user which answer, and which no input may hold.
HOLDOUT = b"footpath.holdout"

# One row an event, sorted by (user_id, timestamp, sequence) inside a day: a total order.
EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("timestamp", TIMESTAMP, nullable=False),
        # Place among the user's events of this instant, from 0 and nearly always 0 (dedup.py).
        pa.field("sequence", pa.int32(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("item_id", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("session_id", pa.string()),  # the source's own, where it has one
        pa.field("properties", pa.map_(pa.string(), pa.string())),
    ]
)

# What a source says of an event. Only the timestamp, which decides the day, is required before the
# gate, which judges the rest.
_SAID = [
    pa.field(field.name, field.type, nullable=field.name != "timestamp")
    for field in EVENTS
    if field.name != "sequence"
]
EVENT_FIELDS = [field.name for field in _SAID]

_PLACE = [
    pa.field("source_file", pa.string(), nullable=False),
    pa.field("source_line", pa.int64(), nullable=False),  # counted from 1, headers included
]

# A fragment: the rows of one landing file that fall on one event day, by line and element.
FRAGMENT = pa.schema(
    [
        *_SAID,
        *_PLACE,
        pa.field("source_element", pa.int32()),  # of the line, from 1; null where it is one event
        pa.field("source_sequence", pa.int64()),  # as the YAML's events.sequence gives it
    ]
)

# A day's events before the gate.
STAGED = pa.schema([*_SAID, EVENTS.field("sequence"), *_PLACE])

# Rows that were refused, whole, with the reason. `raw` is the row as it was read.
QUARANTINE = pa.schema(
    [
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("source_line", pa.int64(), nullable=False),
        pa.field("day", pa.date32()),  # null where the row could not be dated
        pa.field("stage", pa.string(), nullable=False),  # "landing" or "events"
        pa.field("broken", pa.list_(pa.string()), nullable=False),  # names of the broken rules
        pa.field("detail", pa.string()),
        pa.field("raw", pa.string()),
    ]
)

SESSIONS = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("started_at", TIMESTAMP, nullable=False),
        pa.field("ended_at", TIMESTAMP, nullable=False),  # of the last event
        pa.field("closes_at", TIMESTAMP, nullable=False),  # last event + gap, or the cut
        pa.field("length", pa.int32(), nullable=False),  # events
        pa.field("duration_seconds", pa.float64(), nullable=False),
        pa.field("actions", pa.list_(pa.string()), nullable=False),  # in order of time
        pa.field("item_ids", pa.list_(pa.string()), nullable=False),  # in order, nulls kept
        pa.field("distinct_items", pa.int32(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),  # sum, nulls as zero
        pa.field("is_cut", pa.bool_(), nullable=False),  # ended by the bot rule
    ]
)

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("category", pa.string()),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
    ]
)

USERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
    ]
)

# One row an example and task, or in a ranking one a candidate. An example is a user's history up
# to an instant. `value` is the class index or the number; `label` names the class. In a ranking,
# `label` is an item and `value` says whether it is relevant (1) or was shown and not chosen (0).
LABELS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("since", TIMESTAMP),  # inputs begin here; null: with the user's first event
        pa.field("as_of", TIMESTAMP, nullable=False),  # inputs end here, exclusive; a whole second
        pa.field("label_end", TIMESTAMP, nullable=False),  # the label looks no further
        pa.field("task", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("numbers", pa.list_(pa.float64())),  # known of a candidate, as the task names them
        pa.field("split", pa.string(), nullable=False),  # train, valid or test, by user
    ]
)

# The three clocks of every feature row. `created` is when the row would have been known.
FEATURE_CLOCKS = [
    pa.field("event_timestamp", TIMESTAMP, nullable=False),
    pa.field("created", TIMESTAMP, nullable=False),
    pa.field("written_at", TIMESTAMP, nullable=False),
]


def embeddings_schema(dim: int, scores: int = 0) -> pa.Schema:
    """Schema of `user_embeddings`.

    Args:
      dim: float32 values of a vector.
      scores: values that a fine-tuned model predicts of a user. One is a number in the unit of the
        label, or the probability of the second of two classes, in `score`; more are probabilities
        of classes, in `scores`. A pre-trained model predicts none and has no such column.
    """
    predicted = []
    if scores:
        kind = pa.float64() if scores == 1 else pa.list_(pa.float32(), scores)
        predicted = [pa.field("score" if scores == 1 else "scores", kind)]  # null: not known
    return pa.schema(
        [
            pa.field("user_id", pa.string(), nullable=False),
            *FEATURE_CLOCKS,
            pa.field("embedding", pa.list_(pa.float32(), dim), nullable=False),
            *predicted,
            pa.field("model_version", pa.string(), nullable=False),
        ]
    )


# One row a measured (recipe, inputs, task, share, seed, protocol, metric).
METRICS = pa.schema(
    [
        pa.field("method", pa.string(), nullable=False),  # ptum, none, majority, tfidf_lr
        pa.field("encoder", pa.string(), nullable=False),  # bert4rec, gru4rec, or "-"
        # frozen, finetuned, scratch, native (a ranking by pre-training's own score), baseline
        pa.field("protocol", pa.string(), nullable=False),
        # what the head sees: embedding, features, embedding+features, profile, items (baselines)
        pa.field("inputs", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("label_share", pa.float64(), nullable=False),
        pa.field("seed", pa.int32(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64()),  # null: these users have none, as AUC of one class
        pa.field("train_users", pa.int32(), nullable=False),
        pa.field("test_users", pa.int32(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("model_version", pa.string()),
    ]
)
