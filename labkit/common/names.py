"""Names of classes, compared as people read them.

One name can be spelled in several ways: ``é`` is one letter or two (NFC and NFD), and macOS writes the second.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence


def composed(name: str) -> str:
    """A name in the form in which names are compared (NFC)."""
    return unicodedata.normalize("NFC", name)


def find(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is `name`: spelled alike, or, if there is none, the only one that reads alike."""
    there = list(names)
    if name in there:
        return name
    alike = [other for other in there if composed(other) == composed(name)]
    return alike[0] if len(alike) == 1 else None


def shown(names: Sequence[str]) -> list[str]:
    """Names for a message; those that read alike are told apart by their escaped letters."""
    count = Counter(map(composed, names))
    return [
        f"{name} ({name.encode('ascii', 'backslashreplace').decode()})" if count[composed(name)] > 1 else name
        for name in names
    ]


def read_alike(names: Iterable[str]) -> list[str]:
    """The names that read like another one."""
    there = list(names)
    count = Counter(map(composed, there))
    return [name for name in there if count[composed(name)] > 1]
