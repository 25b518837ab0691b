"""What the columns of the lake's tables mean: shown beside the schemas wherever tables are shown.

A column has one meaning in all tables, but for those that a table defines anew.
"""

MEANINGS = {
    "event_id": "Identity of the event: of several rows with one id, one is kept",
    "user_id": "Who did it, as the source names them",
    "timestamp": "When it happened (UTC)",
    "sequence": "Order of one user's events of one instant: as delivered, or as the source says",
    "action": "What was done: one of the actions that the data set's YAML names",
    "item_id": "What it was done to; null for an action without an item",
    "value": "A number of the event, such as a price or a rating; null where it has none",
    "session_id": "Identity of the session",
    "properties": "Further fields of the source, as text",
    "started_at": "First event (UTC)",
    "ended_at": "Last event (UTC)",
    "closes_at": "When the session is known to have ended: last event and gap, or the cut",
    "length": "Events",
    "duration_seconds": "From first to last event",
    "actions": "Actions in order of time",
    "item_ids": "Items in order of time; null where an event has none",
    "distinct_items": "Different items",
    "is_cut": "Ended by the limit on a session's length, as bots' are",
    "title": "Name of the item",
    "category": "Category of the item",
    "attributes": "Further fields of the source, as text",
    "event_timestamp": "End of the day (UTC) that the row is as of: what came later is not in it",
    "created": "When the row would have been known, without looking back: joins go by it",
    "written_at": "When the row was written",
    "embedding": "The user's vector",
    "score": "What the fine-tuned model predicts of the user; null: not known",
    "scores": "Probability of each class by the fine-tuned model; null: not known",
    "model_version": "Model that made the vector: vectors of different versions do not compare",
}
SESSION_MEANINGS = {"value": "Sum of the values of its events, nulls as zero"}
EVENT_MEANINGS = {"session_id": "The source's own session, where it has one"}
LABEL_MEANINGS = {
    "since": "Inputs begin here; null: with the user's first event",
    "as_of": "Inputs end here, exclusive",
    "label_end": "The label looks no further than this",
    "task": "What is to be predicted",
    "value": "Class index, number, or in a ranking whether the candidate is relevant",
    "label": "Name of the class, or in a ranking the candidate item",
    "numbers": "What is known of a candidate, as the task names it",
    "split": "train, valid or test: by user",
}
