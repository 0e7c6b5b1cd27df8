"""Options that are not read are refused, and those that say nothing new are not."""

import argparse

import pytest

from labkit.common.options import changed, only, refuse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder")
    parser.add_argument("--data-root")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--gather", action="store_true")


def test_what_differs_from_its_default_was_asked_for() -> None:
    parser = argparse.ArgumentParser()
    arguments(parser)
    given = parser.parse_args(["x", "--shots", "1", "5", "--gather"])
    assert changed(arguments, given) == {"folder": "x", "gather": True}
    options = changed(arguments, parser.parse_args(["x", "--data-root", "y", "--shots", "1"]))
    assert options == {"folder": "x", "data_root": "y", "shots": [1]}
    with pytest.raises(ValueError, match="--data-root is not read: leave it out"):
        only(options, ("folder", "gather"), "is not read: leave it out")
    with pytest.raises(ValueError, match="--shots is not read"):
        refuse(options, ("gather", "shots"), "is not read")
    only(options, ("folder", "shots", "data_root"), "is not read")
    refuse(options, ("gather",), "is not read")
