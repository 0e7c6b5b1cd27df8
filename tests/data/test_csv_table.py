"""Tables of pictures: quotes, lines, encodings."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from labkit.common.errors import DataError
from tests.helpers.real_files import load_all, some_pixels, write_folders


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (['a/1.png,"a', "a/2.png,a"], 2),
        (["a/1.png,a", '"a/2.png,a'], 3),
        (["a/1.png,a", 'a/2.png,"a', 'a/3.png,"b', "a/4.png,b"], 3),
        (['a/1.png,a,"a note', "a/2.png,a"], 2),
        (["a/1.png,a", 'a/2.png,"a'], 3),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_that_is_not_closed(root: Path, rows: list[str], line: int, end: str) -> None:
    write_folders(root, {"a": some_pixels(4, 8)})
    for i in range(4):
        (root / "a" / f"a_{i}.png").rename(root / "a" / f"{i + 1}.png")
    (root / "t.csv").write_text(end.join(["path,class,note", *rows]), newline="")
    with pytest.raises(DataError, match=rf"t\.csv, line {line}: a double quote opens and is not closed"):
        load_all(root, csv="t.csv")


def test_quotes_that_are_closed(root: Path) -> None:
    write_folders(root, {"a": some_pixels(2, 8)})
    (root / "a" / "a_1.png").rename(root / "a" / 'a "b", c.png')
    (root / "t.csv").write_text('path,class\n"a/a_0.png" , "x, y"\n\n"a/a ""b"", c.png","5"" z"')
    assert load_all(root, csv="t.csv").class_names == ('5" z', "x, y")


@pytest.mark.parametrize("class_name", ['"a"b', '"a\\"b"', '"a" b "c"'])
def test_a_quote_where_none_may_stand_is_no_guess(root: Path, class_name: str) -> None:
    write_folders(root, {"a": some_pixels(2, 8)})
    (root / "t.csv").write_text(f"path,class\na/a_0.png,a\na/a_1.png,{class_name}\n")
    with pytest.raises(DataError, match=r"t\.csv, line 3: .*double quote"):
        load_all(root, csv="t.csv")


def test_an_entry_over_several_lines_is_named(root: Path) -> None:
    write_folders(root, {"a": some_pixels(2, 8)})
    (root / "t.csv").write_text('path,class,note\na/a_0.png,a,\na/a_1.png,a,"first\nsecond"\n')
    with pytest.raises(DataError, match=r"t\.csv, line 3: .* An entry that goes over several lines is not read"):
        load_all(root, csv="t.csv")


@pytest.mark.parametrize("text", ['"path,class\na/a_0.png,a\n', 'path,"class\na/a_0.png,a"\n'])
def test_a_quote_that_opens_in_the_first_line(root: Path, text: str) -> None:
    write_folders(root, {"a": some_pixels(1, 8)})
    (root / "t.csv").write_text(text)
    with pytest.raises(DataError, match=r"t\.csv, line 1: a double quote opens"):
        load_all(root, csv="t.csv")


def test_other_faults_of_tables(root: Path) -> None:
    write_folders(root, {"a": some_pixels(2, 8)})
    (root / "t.csv").write_text("path,class\na/a_0.png,x, y\n")
    with pytest.raises(DataError, match=r"line 2: expected 2 entries as in the first line, got 3; put"):
        load_all(root, csv="t.csv")
    (root / "t.csv").write_bytes(b"path,class\na/a_0.png,x\na/a_1.png,\xe9\n")
    with pytest.raises(DataError, match=r"not a readable CSV table in UTF-8 \(line 3"):
        load_all(root, csv="t.csv")
    (root / "t.csv").write_bytes(b"path,class\na/a_0.png,a\0\n")
    with pytest.raises(DataError, match=r"line 2: not a readable .* holds a zero byte"):
        load_all(root, csv="t.csv")
    (root / "t.csv").write_text("path;class\na/a_0.png;a\n")
    with pytest.raises(DataError, match="expected a first line filename,label or path,class, with commas, got 'path;"):
        load_all(root, csv="t.csv")
    (root / "t.csv").write_bytes(gzip.compress(b"path,class\na/a_0.png,x\n"))
    with pytest.raises(DataError, match="expected a CSV table, this file is packed with gzip"):
        load_all(root, csv="t.csv")
