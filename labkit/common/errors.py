"""The exceptions of the readers and of sweeps, and what messages have in common."""

from collections.abc import Sequence


class DataError(ValueError):
    """Images on the disk are not what they should be; the message names the file, what was expected and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class FailedRunsError(RuntimeError):
    """Some runs of a sweep failed; all others are finished and kept."""


def printable(text: str) -> str:
    r"""`text` as every terminal and JSON file takes it: bytes of a file name that are not UTF-8 become ``\udcXX``."""
    return text.encode("utf-8", "backslashreplace").decode()


def few(names: Sequence[str], most: int = 5, between: str = ", ") -> str:
    """The first of some names, and how many more there are: ``a, b and 3 more``."""
    return between.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
