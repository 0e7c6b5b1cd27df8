"""`dmf-lab table`, `figure` and `speed` hand what was asked to the studies."""

from pathlib import Path
from typing import Any

import pytest

from labkit.__main__ import main
from labkit.studies import figure3_sampling, figure4_heat, solvers
from labkit.studies.displacement import measure as displacement
from labkit.studies.speed import measure as speed
from labkit.studies.speed.setting import Setting


@pytest.mark.parametrize(
    ("given", "module", "expected"),
    [
        (["3", "--episodes", "5"], figure3_sampling, {"episodes": 5, "seed": 0}),
        (["4", "--out", "x.json"], figure4_heat, {"episodes": 200, "seed": 0, "out": Path("x.json")}),
        (["4", "--out=~/x.json"], figure4_heat, {"episodes": 200, "seed": 0, "out": Path.home() / "x.json"}),
        (["displacement", "--kept", "k"], displacement, {"kept": Path("k")}),
        (["solvers"], solvers, {}),
    ],
)
def test_a_figure_is_measured_as_asked(
    given: list[str], module: Any, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "run", lambda **how: asked.append(how))
    assert main(["figure", *given]) == 0
    assert asked == [expected]


def test_speed_is_measured_on_the_device_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(speed, "run", lambda *how: asked.append(how))
    assert main(["speed", "out.json", "--device", "cuda", "--parts", "head"]) == 0
    assert asked == [(Path("out.json"), ["head"], Setting(device="cuda"), 2)]


@pytest.mark.parametrize("command", ["table", "figure", "speed"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"usage: dmf-lab {command}" in capsys.readouterr().out
