"""Which pre-training works on this data, for these tasks, with this few labels.

boards        METRICS rows -> a board a task: who, by label share, mean and spread over seeds
significance  is one better than another? On the same users, by a paired bootstrap
fusion        what a model adds to TF-IDF: their probabilities, mixed by validation
tables        a board as Markdown and HTML
efficiency    the picture of label efficiency
plots         those of batch sizes, map of users, attention, collapse
page          all of it as one HTML file that needs no other
"""

from models.leaderboard.boards import Board, Cell, boards, collect
from models.leaderboard.efficiency import plot
from models.leaderboard.markdown import to_markdown
from models.leaderboard.page import write_html

__all__ = ["Board", "Cell", "boards", "collect", "plot", "to_markdown", "write_html"]
