"""Which events are held out: the last of each user, which answer and which no input holds."""


def is_held_out(count: int) -> str:
    """Returns SQL over events with user_id, timestamp and sequence, for QUALIFY.

    True of the last `count` events of each user, in the order of training sequences.
    """
    order = "events.timestamp DESC, events.sequence DESC"
    return f"row_number() OVER (PARTITION BY events.user_id ORDER BY {order}) <= {count}"
