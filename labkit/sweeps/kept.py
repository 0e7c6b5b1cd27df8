"""Where measured results are kept: the lab's own files in ``labkit/results``, and what sweeps have added since."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from labkit.common.files import expanded, read_json, write_atomically, write_json
from labkit.common.versions import versions
from labkit.sweeps.sweep import finished

Row = dict[str, Any]


def write_result(file: Path, what: str | None, command: str, content: Mapping[str, Any]) -> None:
    """Write a study's result with what it is, how it was made, when, and with which versions.

    Args:
        what: the docstring of the study, whose second paragraph is taken; or one paragraph.
        command: that measures it again.
    """
    paragraphs = (what or "").split("\n\n")
    about: dict[str, Any] = {
        "what": paragraphs[1 if len(paragraphs) > 1 else 0].strip().replace("\n", " "),
        "command": command,
    }
    about |= {"date": str(date.today()), "versions": versions()}
    write_json(file, about | dict(content))


def read_rows(file: Path) -> list[Row]:
    """The lab's own rows: of JSON lines, or of a JSON file with ``"runs"``; none if there is no file."""
    if not file.exists():
        return []
    if file.suffix == ".json":
        rows: list[Row] = read_json(file)["runs"]
        return rows
    return [json.loads(line) for line in file.read_text().splitlines()]


def all_rows(file: Path, folder: Path | str | None, version: str | int, by: Sequence[str]) -> list[Row]:
    """The lab's own rows and those of a sweep's folder, sorted, one for each combination of the entries `by`.

    A sweep's newer run of the same parameters takes the place of the lab's.
    """
    found = finished(folder, version) if folder is not None and expanded(folder).is_dir() else []
    rows = read_rows(file) + [r["result"] | {"commit": r["commit"]} for r in found]
    by_run = {tuple(r[name] for name in by): r for r in rows}
    return [by_run[run] for run in sorted(by_run)]


def write_rows(file: Path, rows: Iterable[Row]) -> None:
    """Make the lab's own rows these, as JSON lines."""
    write_atomically(file, "".join(json.dumps(row) + "\n" for row in rows).encode())
