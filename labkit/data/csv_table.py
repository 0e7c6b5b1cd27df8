"""CSV tables that list pictures with their classes."""

import csv
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from labkit.common.errors import DataError
from labkit.common.files import instead, is_file

# Heads of the two columns that are read; others may stand beside them.
HEADS = (("filename", "label"), ("path", "class"))
QUOTED_AND_SPACES = re.compile(r'("(?:[^"]|"")*")[ \t]+(?=,|$)')


def read_rows(table: Path) -> list[tuple[int, str, str]]:
    """Line number, path and class of each row. A row is one line: no name of a file or a class holds a line break.

    Raises:
        DataError: no such header, an empty entry, a quote that is not closed in its line or stands where none may, or
            no text in UTF-8.
    """
    if not is_file(table):  # reading a pipe would wait for ever
        raise DataError(f"{table}: not a readable CSV table (no such file)")
    rows = []
    heads: tuple[str, str] | None = None
    columns: list[str] = []
    for line, cells in _records(table, _text(table)):
        if heads is None:
            columns = cells
            heads = next((pair for pair in HEADS if set(pair) <= set(columns)), None)
            if heads is None:
                break
            continue
        if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
            raise DataError(
                f"{table}, line {line}: expected {len(columns)} entries as in the first line, got {len(cells)}; "
                "put an entry that holds a comma into double quotes"
            )
        named = dict(zip(columns, cells, strict=False))
        name, class_name = (named.get(head, "").strip() for head in heads)
        if not name or not class_name:
            raise DataError(f"{table}, line {line}: expected a path and a class, one is empty")
        if "\0" in name + class_name:
            raise DataError(
                f"{table}, line {line}: not a readable CSV table (an entry holds a zero byte); save it as text"
            )
        rows.append((line, name, class_name))
    if heads is None:
        wanted = " or ".join(",".join(pair) for pair in HEADS)
        raise DataError(f"{table}: expected a first line {wanted}, with commas, got {','.join(columns)!r:.80}")
    return rows


def _text(table: Path) -> str:
    try:
        content = table.read_bytes()
    except OSError as error:
        raise DataError(f"{table}: not a readable CSV table ({error})") from error
    if other := instead(content):
        raise DataError(f"{table}: expected a CSV table, this file is {other}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{table}: not a readable CSV table in UTF-8 (line {line}: {error}); save it with that encoding"
        ) from error


def _records(table: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that is not empty."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    # An empty line at the end: a quote that is still open there swallows it, and is found like any other. `strict`: a
    # text behind a closing quote is an error, where a reader would guess otherwise (`"a"b` becomes `ab`).
    # Spaces between that quote and the comma are taken away before.
    trimmed = (QUOTED_AND_SPACES.sub(r"\1", line) for line in (*lines, ""))
    reader = csv.reader((f"{line}\n" for line in trimmed), skipinitialspace=True, strict=True)
    before = 0
    try:
        for cells in reader:
            if reader.line_num > before + 1:
                raise DataError(_unclosed(table, before + 1))
            before = reader.line_num
            if cells:
                yield before, cells
    except csv.Error as error:
        if reader.line_num > before + 1:
            raise DataError(_unclosed(table, before + 1)) from error
        raise DataError(
            f"{table}, line {before + 1}: not a readable CSV table ({error}); a double quote within a quoted entry is "
            "written twice"
        ) from error


def _unclosed(table: Path, line: int) -> str:
    return (
        f"{table}, line {line}: a double quote opens and is not closed in that line; close it, or write it twice where "
        "it belongs to a name. An entry that goes over several lines is not read: join them"
    )


def find_file(folder: Path, name: str) -> Path | None:
    """The file that a table calls `name`, whichever way its accents are written (macOS decomposes them)."""
    for spelling in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
        if is_file(folder / spelling):
            return folder / spelling
    return None
