"""Words for classes whose files call them by WordNet's numbers: n04146614 is "school bus"."""

import json
from functools import cache
from pathlib import Path


@cache
def words() -> dict[str, str]:
    """The 100 classes of miniImageNet: WordNet's number to the first word of its synset."""
    return _read("wordnet.json")


@cache
def words_of_tinyimagenet() -> dict[str, str]:
    """The 200 classes of Tiny ImageNet in the same way; 25 of them are miniImageNet's too."""
    return _read("tinyimagenet.json")


def word_of(name: str) -> str:
    """The word for a class, or the name itself, where it is no number of WordNet or of another data set's class."""
    return words().get(name) or words_of_tinyimagenet().get(name, name)


def _read(file: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(Path(__file__).with_name(file).read_text(encoding="utf-8"))["words"]
    return found
