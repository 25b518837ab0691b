"""The one exception that is shown to a user as a sentence instead of a traceback."""


class FootpathError(Exception):
    """A fault that its reader can mend.

    The message is one sentence: which file, which row or field, what was expected, what to do.
    """


class TransientError(FootpathError):
    """A fault that may pass by itself: a store that does not answer, a process that was killed."""
