"""Pre-training objectives: a new one is a file beside these and a line in OBJECTIVES."""

from typing import Any

from contracts.base.errors import FootpathError
from models.nn.user_model import ModelConfig
from models.objectives.barlow_twins import BarlowTwins
from models.objectives.base import Objective
from models.objectives.byb import Byb
from models.objectives.coles import Coles
from models.objectives.dual import Dual
from models.objectives.masked_item import MaskedItem
from models.objectives.msdp import Msdp
from models.objectives.next_item import NextItem
from models.objectives.none import NoPretraining
from models.objectives.ptum import ManyMask, Ptum
from models.objectives.ubm.objective import Ubm
from models.runtime.config import parse

OBJECTIVES: dict[str, type[Objective]] = {
    "barlow": BarlowTwins,
    "byb": Byb,
    "coles": Coles,
    "dual": Dual,
    "manymask": ManyMask,
    "masked": MaskedItem,
    "msdp": Msdp,
    "next": NextItem,
    "none": NoPretraining,
    "ptum": Ptum,
    "ubm": Ubm,
}


def build_objective(method: str, model: ModelConfig, options: dict[str, Any]) -> Objective:
    """Builds an objective from its options.

    Raises:
      FootpathError: the method or one of its options is unknown.
    """
    if method not in OBJECTIVES:
        raise FootpathError(
            f"there is no method '{method}': the known ones are {', '.join(OBJECTIVES)}"
        )
    kind = OBJECTIVES[method]
    return kind(model, parse(kind.options_class, options, f"objective {method}"))
