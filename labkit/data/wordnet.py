"""Words for the classes of miniImageNet, whose files call them by WordNet's numbers: n04146614 is "school bus"."""

import json
from functools import cache
from pathlib import Path


@cache
def words() -> dict[str, str]:
    """The 100 classes of miniImageNet: WordNet's number to the first word of its synset."""
    found: dict[str, str] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))["words"]
    return found


def word_of(name: str) -> str:
    """The word for a class, or the name itself, where it is no number of WordNet or of another data set's class."""
    return words().get(name, name)
