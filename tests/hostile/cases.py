"""The table of hostile files, filled by the modules beside this one."""

from __future__ import annotations

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


CASES: dict[str, Case] = {}


def case(mechanism: str, named: str, said: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds what it decorates, a function of an empty folder and of the canary's path, to `CASES`."""

    def add(build: Callable[..., Any]) -> Callable[..., Any]:
        assert mechanism not in CASES
        CASES[mechanism] = Case(named, said, build)
        return build

    return add
