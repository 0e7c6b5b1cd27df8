"""The one exception of the readers."""


class DataError(ValueError):
    """Images on the disk are not what they should be; the message names the file, what was expected and what to do."""
