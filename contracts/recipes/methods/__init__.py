"""Options of pre-training methods: a new one is a file beside these and a line in METHODS."""

from contracts.recipes.methods.barlow import BarlowOptions
from contracts.recipes.methods.base import MethodOptions
from contracts.recipes.methods.byb import BybOptions
from contracts.recipes.methods.coles import ColesOptions
from contracts.recipes.methods.dual import DualOptions
from contracts.recipes.methods.future import FutureOptions
from contracts.recipes.methods.masked import MaskedOptions
from contracts.recipes.methods.msdp import MsdpOptions
from contracts.recipes.methods.next import NextOptions
from contracts.recipes.methods.none import NoneOptions
from contracts.recipes.methods.ptum import ManyMaskOptions, PtumOptions
from contracts.recipes.methods.ubm import UbmOptions

METHODS: dict[str, type[MethodOptions]] = {
    "barlow": BarlowOptions,
    "byb": BybOptions,
    "coles": ColesOptions,
    "dual": DualOptions,
    "future": FutureOptions,
    "manymask": ManyMaskOptions,
    "masked": MaskedOptions,
    "msdp": MsdpOptions,
    "next": NextOptions,
    "none": NoneOptions,
    "ptum": PtumOptions,
    "ubm": UbmOptions,
}
