"""Pre-training objectives: a new one is a file beside these and a line in OBJECTIVES."""

from models.objectives.barlow_twins import BarlowTwins
from models.objectives.base import Objective
from models.objectives.byb import Byb
from models.objectives.coles import Coles
from models.objectives.dual import Dual
from models.objectives.future import Future
from models.objectives.masked_item import MaskedItem
from models.objectives.msdp import Msdp
from models.objectives.next_item import NextItem
from models.objectives.none import NoPretraining
from models.objectives.ptum import ManyMask, Ptum
from models.objectives.ubm.objective import Ubm

OBJECTIVES: dict[str, type[Objective]] = {
    "barlow": BarlowTwins,
    "byb": Byb,
    "coles": Coles,
    "dual": Dual,
    "future": Future,
    "manymask": ManyMask,
    "masked": MaskedItem,
    "msdp": Msdp,
    "next": NextItem,
    "none": NoPretraining,
    "ptum": Ptum,
    "ubm": Ubm,
}
