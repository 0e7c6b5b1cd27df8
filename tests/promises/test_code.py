"""What is kept small, and that the defences which `tests.helpers.defences` takes away are in the code."""

import re
from pathlib import Path

import labkit
from tests.helpers.defences import DEFENCES, PROJECT

ROOT = Path(labkit.__file__).parent


def test_no_file_is_too_long_and_no_line_too_wide() -> None:
    python = {file: file.read_text().splitlines() for file in ROOT.rglob("*.py")}
    scripts = {file: file.read_text().splitlines() for file in ROOT.rglob("*.js")}
    assert len(python) > 100
    assert len(scripts) > 5
    assert not [str(file) for file, lines in python.items() if len(lines) > 300]
    assert not [f"{file}:{n}" for file, lines in scripts.items() for n, line in enumerate(lines, 1) if len(line) > 120]


def test_text_is_read_and_written_as_utf_8_whatever_the_machine_prefers() -> None:
    lines = [f"{file.name}: {line.strip()}" for file in ROOT.rglob("*.py") for line in file.read_text().splitlines()]
    texts = [line for line in lines if re.search(r"\b(read|write)_text\(|\.open\(\"[rwa]\"", line)]
    assert len(texts) > 20
    assert not [line for line in texts if "encoding=" not in line and "/proc/" not in line]


def test_what_lies_beside_the_rooms_is_the_package_and_its_command() -> None:
    assert {file.name for file in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_every_defence_that_can_be_taken_away_is_in_the_code() -> None:
    assert not [d.what for d in DEFENCES if d.code not in (PROJECT / d.file).read_text()]
