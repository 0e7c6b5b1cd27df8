"""Every class of miniImageNet has a word of its own."""

import json
from pathlib import Path

from torchvision.models import _meta

from labkit.data import check, wordnet


def test_every_class_of_miniimagenet_has_a_word_and_no_other() -> None:
    known = json.loads((Path(check.__file__).parent / "miniimagenet.json").read_text())["splits"]
    assert sorted(name for classes in known.values() for name in classes) == sorted(wordnet.words())
    assert len(set(wordnet.words().values())) == 100


def test_the_words_are_those_that_torchvision_has_for_these_classes_in_the_same_order() -> None:
    """ImageNet's classes are in the order of their numbers, so ours must stand in torchvision's list in that order."""
    places = [_meta._IMAGENET_CATEGORIES.index(word) for _, word in sorted(wordnet.words().items())]
    assert places == sorted(places)


def test_other_names_stay_as_they_are() -> None:
    assert wordnet.word_of("n04146614") == "school bus"
    assert wordnet.word_of("GREEK SMALL LETTER PHI") == "GREEK SMALL LETTER PHI"
