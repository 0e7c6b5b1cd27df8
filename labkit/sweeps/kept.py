"""Where measured results are kept: the lab's own files in ``labkit/results``, and what sweeps have added since."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from labkit.common.files import expanded, read_json, read_lines, write_atomically, write_json
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
    return read_lines(file, "bring it back from the repository")


def all_rows(
    file: Path,
    folder: Path | str | None,
    version: str | int,
    by: Sequence[str],
    of_file: Callable[[Row], bool] = lambda row: True,
) -> list[Row]:
    """The lab's own rows and those of a sweep's folder, sorted, one for each combination of the entries `by`.

    A sweep's newer run of the same parameters takes the place of the lab's. `of_file` says which of a sweep's rows are
    of the kind that `file` holds.
    """
    return _last_of_each([*read_rows(file), *filter(of_file, finished_rows(folder, version))], by)


def finished_rows(folder: Path | str | None, version: str | int) -> list[Row]:
    """The results of a sweep's finished runs, each with its commit; none where there is no folder."""
    found = finished(folder, version) if folder is not None and expanded(folder).is_dir() else []
    return [r["result"] | {"commit": r["commit"]} for r in found]


def _last_of_each(rows: Iterable[Row], by: Sequence[str]) -> list[Row]:
    by_run = {tuple(r[name] for name in by): r for r in rows}
    return [by_run[run] for run in sorted(by_run)]


def gather(
    file: Path,
    folder: Path | str,
    found: Sequence[Row],
    by: Sequence[str],
    write: Callable[[Path, list[Row]], None] | None = None,
) -> None:
    """Add runs that are finished in a folder to the lab's own rows, and print how many of them are new there.

    A run takes the place of the lab's row with the same entries `by`; all other rows stay. Where nothing is new, the
    file stays as it is, with its date.

    Args:
        file: of the lab's own rows.
        found: what is finished in `folder`, as `file` is to hold it. Rows without the entries `by` are of another
            study, and do not count.
        write: takes `file` and all rows; `write_rows` unless given.

    Raises:
        ValueError: no row is left, since the folder is not there, or nothing of the study is finished in it.
    """
    found = [row for row in found if row.keys() >= set(by)]
    if not found:
        why = "holds no finished run of this study and its version" if expanded(folder).is_dir() else "is no folder"
        raise ValueError(
            f"{folder} {why}: give the folder that the runs were made in; the lab's results are as they were"
        )
    known = read_rows(file)
    new = [row for row in found if row not in known]
    if new:
        (write or write_rows)(file, _last_of_each([*known, *found], by))
    print(f"{len(new)} of the {len(found)} finished runs in {folder} are new in {file}")


def write_rows(file: Path, rows: Iterable[Row]) -> None:
    """Make the lab's own rows these, as JSON lines."""
    write_atomically(file, "".join(json.dumps(row) + "\n" for row in rows).encode())
