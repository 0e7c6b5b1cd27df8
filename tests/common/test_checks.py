"""Arguments are looked at, and converted where they enter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labkit.common import checks


def test_numbers_come_back_as_pythons_own() -> None:
    assert type(checks.check_int("n", np.int64(5))) is int
    assert type(checks.finite("x", np.float32(0.5))) is float
    assert checks.flag("b", np.True_) is True
    found = checks.plain({"a": np.float32(0.5), "b": [np.int64(1), (np.bool_(True),)], "c": np.arange(2)})
    assert found == {"a": 0.5, "b": [1, (True,)], "c": [0, 1]}
    assert [type(v) for v in (found["a"], found["b"][0], found["b"][1][0])] == [float, int, bool]


def test_the_home_folder_is_meant_by_a_tilde_and_other_names_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/a/test")
    assert checks.path("p", "~/runs") == Path("/home/of/a/test/runs")
    assert checks.path("p", "~$letter.png") == Path("~$letter.png")
    with pytest.raises(TypeError, match="p must be the path of a file or folder, got 5"):
        checks.path("p", 5)


@pytest.mark.parametrize("value", ["abc", 1, {"a": 1}, None])
def test_a_series_is_no_text_number_or_mapping(value: object) -> None:
    with pytest.raises(TypeError, match="shots must be a list, got"):
        checks.several("shots", value, "a list")
