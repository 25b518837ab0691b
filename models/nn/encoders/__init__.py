"""User encoders: a new one is a file beside these and a line in ENCODERS."""

from models.nn.encoders.bag import Bag
from models.nn.encoders.base import UserEncoder
from models.nn.encoders.bert4rec import Bert4Rec
from models.nn.encoders.gru4rec import Gru4Rec
from models.nn.encoders.han import Han
from models.nn.encoders.hsa import Hsa
from models.nn.encoders.hstu import Hstu
from models.nn.encoders.hura import Hura
from models.nn.encoders.nativectr import NativeCtr
from models.nn.encoders.rotary import Rotary

ENCODERS: dict[str, type[UserEncoder]] = {
    "bag": Bag,
    "bert4rec": Bert4Rec,
    "gru4rec": Gru4Rec,
    "han": Han,
    "hsa": Hsa,
    "hstu": Hstu,
    "hura": Hura,
    "nativectr": NativeCtr,
    "rotary": Rotary,
}
