"""The table of hostile files, filled by the modules beside this one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Read: TypeAlias = Callable[[], object]
Build: TypeAlias = Callable[[Path, Path], Read]
"""Writes a hostile file into an empty folder, given the canary's path too, and gives the read to be tried."""


@dataclass(frozen=True)
class Case:
    """A file whose read must raise an error that names the file `named` and matches the pattern `said`."""

    named: str
    said: str
    build: Build


MOST_MB = 150  # that a reader may take to find out; the announced sizes are hundreds of megabytes and more


def faults(wanted: Case, came: dict[str, Any]) -> list[str]:
    """What is wrong with what came of a case, as `labkit`'s readers answered it."""
    if "kind" not in came:
        return ["its reader hung, or was killed"]
    said = came["said"]
    tests = {
        f"a {came['kind']}": came["kind"] in ("DataError", "ValueError", "FileNotFoundError"),
        "it ran": not came["ran"],
        f"{wanted.named} is not named": wanted.named in said,
        f"not for the reason {wanted.said!r}": re.search(wanted.said, said) is not None,
        "a message without end": len(said) < 2500,
        f"{came['MB']} MB": came["MB"] < MOST_MB,
    }
    return [f"{what}: {said:.300}" for what, well in tests.items() if not well]


CASES: dict[str, Case] = {}


def case(mechanism: str, named: str, said: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds what it decorates, a function of an empty folder and of the canary's path, to `CASES`."""

    def add(build: Callable[..., Any]) -> Callable[..., Any]:
        assert mechanism not in CASES
        CASES[mechanism] = Case(named, said, build)
        return build

    return add
