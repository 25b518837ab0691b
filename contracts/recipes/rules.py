"""Rules: what a recipe is where nobody says otherwise.

They hold for any log: an event is read with all that is known of it, passes follow from the users
(`Recipe.passes`), and the method's own loss on held-out users ends training where it learns no
more.
How they were chosen, one data set left out at a time, is in docs/results.md.
"""

from typing import Any

from contracts.recipes.encoders import ENCODERS
from contracts.recipes.methods import METHODS

# Items from which the cost of a step would be that of the catalog: a softmax over them reads a
# sample, and a step updates the rows that it met. The figures behind them are in docs/figures.md.
MANY_ITEMS = 50_000
SAMPLED = 4096


def sampled_items(items: int) -> int:
    """How many others stand for all items in a softmax; 0: all do."""
    return SAMPLED if items >= MANY_ITEMS else 0


def is_lazy(items: int) -> bool:
    """Whether a step updates the rows of the items that it met alone."""
    return items >= MANY_ITEMS


def settings_of(method: str, encoder: str) -> dict[str, Any]:
    """Settings of a method with an encoder, as YAML has them; of an unknown one, none.

    Args:
      method: its name.
      encoder: its name.
    """
    if method not in METHODS or encoder not in ENCODERS:
        return {}
    found: dict[str, Any] = {"max_length": 100, "lr": 1e-3, "encoder": {}}
    if encoder == "bag":  # cheap: it sees more of a history, and learns faster
        found |= {"max_length": 200, "lr": 3e-3}
    if METHODS[method].summarizes:
        found |= {"lr": 1e-3, "encoder": {"dropout": 0.2}}  # it soon learns targets by heart
    if METHODS[method].reads_forwards and "causal" in ENCODERS[encoder].model_fields:
        found["encoder"] |= {"causal": True}
    if METHODS[method].trains and METHODS[method].loss_tells:
        found["validation"] = {}
    return found
