"""Options of a command that the way it is called does not read: each is refused, and none ignored without a word."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def changed(arguments: Callable[[argparse.ArgumentParser], None], given: argparse.Namespace) -> dict[str, Any]:
    """The options of a call that are not what `arguments` makes them where nothing is said, by name."""
    parser = argparse.ArgumentParser(add_help=False)
    arguments(parser)
    return {name: value for name, value in vars(given).items() if value != parser.get_default(name)}


def refuse(options: Mapping[str, Any], names: Iterable[str], why: str) -> None:
    """Raises:
    ValueError: one of `names` is among the options; `why` goes on where its name ends.
    """
    if wrong := [name for name in names if name in options]:
        raise ValueError(f"--{wrong[0].replace('_', '-')} {why}")


def only(options: Mapping[str, Any], read: Iterable[str], why: str) -> None:
    """Raises:
    ValueError: there is an option that is not among those that are `read`; `why` as of `refuse`.
    """
    refuse(options, [name for name in options if name not in set(read)], why)
