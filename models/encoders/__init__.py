"""User encoders: a new one is a file beside these and a line in ENCODERS."""

from models.encoders.bag import Bag
from models.encoders.base import UserEncoder
from models.encoders.bert4rec import Bert4Rec
from models.encoders.gru4rec import Gru4Rec
from models.encoders.han import Han
from models.encoders.hsa import Hsa
from models.encoders.hura import Hura
from models.encoders.nativectr import NativeCtr
from models.encoders.rotary import Rotary

ENCODERS: dict[str, type[UserEncoder]] = {
    "bag": Bag,
    "bert4rec": Bert4Rec,
    "gru4rec": Gru4Rec,
    "han": Han,
    "hsa": Hsa,
    "hura": Hura,
    "nativectr": NativeCtr,
    "rotary": Rotary,
}
