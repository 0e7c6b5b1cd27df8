"""What the lab is made of: nothing is fetched while it works, and every result says what it was computed with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.common.versions import versions
from labkit.explorer.widget import Explorer
from labkit.models.checkpoints import WEIGHTS, read_header

pytestmark = pytest.mark.integration

# What can move a number, at least; later releases of the lab record more.
PACKAGES = {"python", "labkit", "torch", "torchvision", "torchdiffeq", "numpy", "pillow", "matplotlib"}
PACKAGE = Path(labkit.__file__).parent
# Made before versions were recorded; whoever measures them anew takes them off this list.
WITHOUT = {"difficulty.json", "start.json"}


def test_nothing_is_fetched_at_run_time(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.helpers.offline", str(tmp_path), "on purpose"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (asked,) = done.stdout.strip().splitlines()  # so the watch works
    assert re.match(r"urllib\.Request .*192\.0\.2\.1", asked)


def test_the_widget_brings_all_its_code_with_it() -> None:
    for text in (str(Explorer._esm), str(Explorer._css)):
        assert len(text) > 1000  # the code itself, not where it lies
        assert set(re.findall(r"https?://[^\"'` )]+", text)) <= {"http://www.w3.org/2000/svg"}  # a name, not an address
        assert not re.search(r"\bimport\b|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|\beval\(|@import|url\(", text)


def test_no_code_of_the_lab_holds_an_address() -> None:
    for file in PACKAGE.rglob("*"):
        if file.suffix in (".py", ".js", ".css"):
            found = set(re.findall(r"https?://[^\"'` )]+", file.read_text()))
            assert found <= {"http://www.w3.org/2000/svg", "https://git-lfs"}, file  # names, not addresses


def test_a_new_result_says_more_than_early_ones_do() -> None:
    found = versions()
    assert found.keys() == PACKAGES | {"POT", "scipy", "scikit-learn", "pandas"}
    assert "not installed" not in found.values()


def numbers_without_versions(value: Any) -> list[str]:
    """Paths of the numbers in a result beside or above which no versions are recorded."""
    if isinstance(value, dict):
        if value.get("versions", value.get("made", {}).get("versions", {})).keys() >= PACKAGES:
            return []
        return [f"{key}.{path}" for key, inner in value.items() for path in numbers_without_versions(inner)]
    if isinstance(value, list):
        return [f"{i}.{path}" for i, inner in enumerate(value) for path in numbers_without_versions(inner)]
    return [""] if isinstance(value, int | float) else []


@pytest.mark.parametrize("file", sorted((PACKAGE / "results").glob("*.json")), ids=lambda file: file.name)
def test_every_result_says_what_it_was_computed_with(file: Path) -> None:
    missing = numbers_without_versions(json.loads(file.read_text()))
    assert bool(missing) == (file.name in WITHOUT), missing[:5]


@pytest.mark.parametrize("file", sorted(WEIGHTS.glob("*.safetensors")), ids=lambda file: file.name)
def test_every_shipped_model_says_what_it_was_trained_with(file: Path) -> None:
    assert read_header(file)["about"]["versions"].keys() >= PACKAGES
