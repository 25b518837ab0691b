"""The one exception that is shown to a user as a sentence instead of a traceback."""

from collections.abc import Sequence


class FootpathError(Exception):
    """A fault that its reader can mend.

    The message is one sentence: which file, which row or field, what was expected, what to do.
    """


class FieldError(FootpathError):
    """Faults in fields of a configuration, a sentence for each.

    Args:
      where: whose configuration, such as "data set 'shop'".
      faults: the place of each field, and what is wrong there.
    """

    def __init__(self, where: str, faults: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__(
            "\n".join(f"{where}: {'.'.join(map(str, place))}: {text}" for place, text in faults)
        )
        self.faults = faults


class TransientError(FootpathError):
    """A fault that may pass by itself: a store that does not answer, a process that was killed."""
