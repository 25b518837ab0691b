"""User encoders: a new one is a file beside these and a line in ENCODERS."""

from models.encoders.bag import Bag
from models.encoders.base import UserEncoder
from models.encoders.bert4rec import Bert4Rec
from models.encoders.gru4rec import Gru4Rec

ENCODERS: dict[str, type[UserEncoder]] = {
    "bag": Bag,
    "bert4rec": Bert4Rec,
    "gru4rec": Gru4Rec,
}
