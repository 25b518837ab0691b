"""The metrics of tasks: name, task kinds and direction.

To add one, add its entry here and its formula to models.metrics.formulas: all else asks these two.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from contracts.base.errors import FootpathError

# `candidates` is a ranking of the rows of lists that were shown, `ranking` one of all items.
Kind = Literal["classification", "regression", "ranking", "candidates"]


@dataclass(frozen=True)
class Metric:
    """What is known of a metric without computing it."""

    name: str
    kinds: tuple[Kind, ...]
    larger_is_better: bool = True
    two_classes: bool = False  # has no value where there are more

    @property
    def sign(self) -> int:
        """1, or -1 of an error: value * sign is better the larger it is."""
        return 1 if self.larger_is_better else -1

    @property
    def title(self) -> str:
        """How it is shown."""
        return self.name if self.larger_is_better else f"{self.name}, smaller is better"


def _registry(metrics: Iterable[Metric]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


# In the order in which their figures are written.
KNOWN_METRICS = _registry(
    [
        Metric("accuracy", ("classification",)),
        Metric("macro_f1", ("classification",)),
        Metric("auc", ("classification", "candidates")),
        Metric("ap", ("classification", "candidates"), two_classes=True),
        Metric("ks", ("classification",), two_classes=True),
        Metric("mae", ("regression",), larger_is_better=False),
        Metric("rmse", ("regression",), larger_is_better=False),
        *[Metric(f"recall@{depth}", ("ranking",)) for depth in (1, 5, 10, 20)],
        Metric("ndcg@10", ("ranking",)),
        Metric("mrr", ("ranking", "candidates")),
    ]
)


def metric_beside(name: str, measured: Collection[str]) -> str | None:
    """The metric that is shown beside a task's own.

    Of several classes, accuracy and AUC see different things: who says the commonest class of
    everybody has all of the one and none of the other.

    Args:
      name: the task's own metric.
      measured: all that the task was measured by.
    """
    beside = {"accuracy": "auc", "auc": "accuracy"}.get(name)
    if beside not in measured:
        return None
    return None if any(metric_of(metric).two_classes for metric in measured) else beside


def metric_of(name: str) -> Metric:
    """Looks a metric up.

    Raises:
      FootpathError: there is none of that name.
    """
    if name not in KNOWN_METRICS:
        raise FootpathError(f"there is no metric '{name}': known are {', '.join(KNOWN_METRICS)}")
    return KNOWN_METRICS[name]


def metrics_of(kind: Kind) -> list[Metric]:
    """Lists the metrics of a kind of task."""
    return [metric for metric in KNOWN_METRICS.values() if kind in metric.kinds]
