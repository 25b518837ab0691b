"""What happened in a training run so far: its curves, kept with the weights and told to people."""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

CURVES = ("losses_S", "norms_S", "health_E2", "validation_E")


@dataclass
class History:
    """Curves of S steps and E epochs. What has not been reached yet is not a number."""

    step: int
    seconds: float
    events: int
    losses_S: Tensor
    norms_S: Tensor  # of the gradient, before clipping
    health_E2: Tensor  # spread and effective rank of the user vectors, once an epoch
    validation_E: Tensor  # loss of the frozen probe, where there was one

    @classmethod
    def empty(cls, steps: int, epochs: int) -> "History":
        """The history of a run that has not begun."""
        unknown = [torch.full(shape, math.nan) for shape in ((steps,), (steps,), (epochs, 2))]
        return cls(0, 0.0, 0, *unknown, torch.full((epochs,), math.nan))

    def curves(self, per_epoch: int) -> pa.Table:
        """Loss and gradient norm of every step, health and validation of every epoch.

        What is measured once an epoch stands at the epoch's last step, and is null elsewhere.
        """
        table = {
            "step": pa.array(range(self.step), pa.int64()),
            "loss": self.losses_S[: self.step].numpy(),
            "gradient_norm": self.norms_S[: self.step].numpy(),
        }
        by_epoch = {
            "spread": self.health_E2[:, 0],
            "effective_rank": self.health_E2[:, 1],
            "validation_loss": self.validation_E,
        }
        for name, values_E in by_epoch.items():
            column = np.full(max(self.step, per_epoch * len(values_E)), math.nan, np.float32)
            column[per_epoch - 1 :: per_epoch][: len(values_E)] = values_E.numpy()
            table[name] = pa.array(column[: self.step], from_pandas=True)
        return pa.table(table)

    def epoch(self, epoch: int, per_epoch: int) -> dict[str, float]:
        """The figures of one epoch that is over."""
        steps = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
        spread, rank = self.health_E2[epoch].tolist()
        found = {
            "loss": float(self.losses_S[steps].mean()),
            "gradient_norm": float(self.norms_S[steps].mean()),
            "spread": spread,
            "effective_rank": rank,
            "validation_loss": float(self.validation_E[epoch]),
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def best_epoch(self) -> int | None:
        """The epoch with the lowest validation loss; None where none was measured."""
        if bool(self.validation_E.isnan().all()):
            return None
        return int(self.validation_E.nan_to_num(math.inf).argmin())

    def summary(self, per_epoch: int) -> dict[str, float]:
        """The figures that a run is judged by."""
        last = self.losses_S[max(0, self.step - per_epoch) : self.step]
        measured = ~self.health_E2[:, 0].isnan()
        spread, rank = self.health_E2[measured][-1].tolist() if measured.any() else (0.0, 0.0)
        found = {
            "loss": float(last.mean()),
            "first_loss": float(self.losses_S[0]),
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.events / max(self.seconds, 1e-9), 1),
            "spread": spread,
            "effective_rank": rank,
        }
        best = self.best_epoch()
        if best is not None:
            found |= {"best_epoch": best + 1, "validation_loss": float(self.validation_E[best])}
        return found
