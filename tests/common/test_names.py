"""One name in two spellings."""

from __future__ import annotations

from labkit.common import names

NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_names_are_found_however_they_are_spelled() -> None:
    assert names.find(NFC, ["b", NFD]) == NFD
    assert names.find(NFD, [NFC, NFD]) == NFD
    assert names.find("cafe", [NFC]) is None


def test_names_that_read_alike_are_told_apart() -> None:
    assert names.shown(["b", NFC, NFD]) == ["b", rf"{NFC} (caf\xe9)", rf"{NFD} (cafe\u0301)"]
    assert names.read_alike(["b", NFC, NFD]) == [NFC, NFD]
