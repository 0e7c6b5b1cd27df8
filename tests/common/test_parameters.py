"""Parameters of notebooks, as papermill hands them over."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.common import parameters
from tests.helpers.places import ROOT


@pytest.mark.parametrize("given", ["quick", ["quick"], ("quick",), '["quick"]', "[quick]"])
def test_one_name_is_a_list_of_one(given: object) -> None:
    assert parameters.several("weights", given) == ["quick"]


@pytest.mark.parametrize("given", [1, [1], "[1]", "1"])
def test_one_number_is_a_list_of_one(given: object) -> None:
    assert parameters.several("shots", given, int) == [1]


@pytest.mark.parametrize("given", ["many", 1.5, {"a": 1}, [1.5], True, []])
def test_other_things_are_refused(given: object) -> None:
    with pytest.raises((TypeError, ValueError), match="shots must be a list of whole numbers"):
        parameters.several("shots", given, int)


@pytest.mark.parametrize("given", [{"steps": 3}, "{steps: 3}", '{"steps": 3}'])
def test_changes_are_a_dictionary_or_the_text_of_one(given: object) -> None:
    assert parameters.options("changes", given) == {"steps": 3}


@pytest.mark.parametrize("given", ["steps", 3, [3], "{"])
def test_other_changes_are_refused(given: object) -> None:
    with pytest.raises(TypeError, match="changes must be a dictionary of options"):
        parameters.options("changes", given)


def test_runs_are_the_same_folder_from_the_root_and_from_the_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/a/test")
    for place in (ROOT, ROOT / "notebooks"):
        monkeypatch.chdir(place)
        assert parameters.runs_folder("../runs").resolve() == ROOT / "runs"
        assert parameters.runs_folder("~/runs") == Path("/home/of/a/test/runs")
        assert parameters.runs_folder("elsewhere") == Path("elsewhere")
