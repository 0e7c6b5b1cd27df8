"""`dmf-lab table`, `figure` and `speed` hand what was asked to the studies."""

from pathlib import Path
from typing import Any

import pytest

from labkit.__main__ import main
from labkit.studies import figure3_sampling, figure3_without_masks, figure4_heat, figure4_without_masks, solvers
from labkit.studies.displacement import measure as displacement
from labkit.studies.displacement import shifted
from labkit.studies.speed import measure as speed
from labkit.studies.speed.setting import Setting

HERE = Path(__file__).parent
ON_ONE = ["table", "1", "x", "--protocol", "one-backbone"]


@pytest.mark.parametrize(
    ("given", "module", "expected"),
    [
        (["3", "--episodes", "5"], figure3_sampling, {"episodes": 5}),
        (["4", "--out", "x.json"], figure4_heat, {"out": Path("x.json")}),
        (["4", "--out=~/x.json"], figure4_heat, {"out": Path.home() / "x.json"}),
        (["displacement", "--kept", "k"], displacement, {"kept": Path("k")}),
        (["displacement", "--weights", str(HERE)], displacement, {"weights": HERE}),
        (["solvers"], solvers, {}),
        (
            ["3", "--dataset", "miniimagenet", "--data-root", "x", "--weights", "mini"],
            figure3_without_masks,
            {"dataset": "miniimagenet", "data_root": Path("x"), "weights": ["mini"]},
        ),
        (
            ["4", "--dataset", "folder", "--figures", "f"],
            figure4_without_masks,
            {"dataset": "folder", "figures": Path("f")},
        ),
        (
            ["displacement", "--dataset", "glyphs-mini", "--ground", "blurred", "--seed", "1"],
            shifted,
            {"dataset": "glyphs-mini", "ground": "blurred", "seed": 1},
        ),
    ],
)
def test_a_figure_is_measured_as_asked(
    given: list[str], module: Any, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "run", lambda **how: asked.append(how))
    assert main(["figure", *given]) == 0
    assert asked == [expected]


@pytest.mark.parametrize(
    "given", [["3", "--weights", "quick"], ["displacement", "--ground", "blurred"], ["4", "--data-root", "x"]]
)
def test_what_needs_a_dataset_is_refused_without(given: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{given[1]} needs --dataset"):
        main(["figure", "--traceback", *given])


def test_speed_is_measured_on_the_device_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(speed, "run", lambda *how: asked.append(how))
    assert main(["speed", "out.json", "--device", "cuda", "--parts", "head"]) == 0
    assert asked == [(Path("out.json"), ["head"], Setting(device="cuda"), 2)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["train", "mini-smal", "x"], "dmf-lab train: there is no experiment 'mini-smal'; there are ["),
        (["train", "mini-small", "x", "--data-root", "/no/such"], "dmf-lab train: /no/such: expected a folder"),
        (["figure", "3", "--weights", "quick"], "dmf-lab figure: --weights needs --dataset"),
        (["figure", "3", "--episodes", "0"], "dmf-lab figure: episodes must be at least 1, got 0"),
        (["figure", "4", "--seed", "-5"], "dmf-lab figure: seed must be at least 0, got -5"),
        (["figure", "paper-vs-code", "x", "--seeds", "0", "-1"], "dmf-lab figure: a seed must be at least 0, got -1"),
        (
            ["figure", "displacement", "--weights", "a", "b"],
            "dmf-lab figure: --weights must be one folder with models where --dataset is left out, got a b",
        ),
        (["figure", "displacement", "--weights", "quick"], "dmf-lab figure: --weights must be one folder with models"),
        (
            ["figure", "paper-vs-code", "x", "--gather", "--cells", "relu"],
            "dmf-lab figure: --cells is not read with --gather, which adds all that is finished in the folder: leave",
        ),
        (["table", "2", "x", "--gather", "--cells", "dmf"], "dmf-lab table: --cells is not read with --gather"),
        (["table", "1", "x", "--gather", "--settings-of", "1"], "dmf-lab table: --settings-of is not read with --gat"),
        (["table", "1", "x", "--gather", "--own-training"], "dmf-lab table: --own-training is not read with --gather"),
        (["table", "1", "x", "--gather", "--shots", "1"], "dmf-lab table: --shots is not read with --gather"),
        ([*ON_ONE, "--gather", "--cells", "dmf"], "dmf-lab table: --cells, --settings-of and --own-training belong"),
        ([*ON_ONE, "--gather", "--seeds", "7"], "dmf-lab table: --seeds is not read with --gather"),
        ([*ON_ONE, "--gather", "--backbone", "b"], "dmf-lab table: --backbone is not read with --gather"),
        *(
            ([*ON_ONE, "--backbone", "b", "--show", *more], f"dmf-lab table: {more[0]} is not read with --show, which")
            for more in (
                ["--released"],
                ["--engine", "ray"],
                ["--workers", "3"],
                ["--seeds", "7"],
                ["--data-root", "x"],
            )
        ),
        (["ideas", "x"], "dmf-lab ideas: give --backbone, the file of a pre-trained model, or the name of a shipped"),
        *(
            (["ideas", "x", "--gather", *more], f"dmf-lab ideas: {more[0]} is not read with --gather, which adds all")
            for more in (["--backbone", "b"], ["--novel"], ["--steps", "3"], ["--shots", "1"])
        ),
        (["ideas", "x", "--backbone", "b", "--ideas", "X"], "dmf-lab ideas: there is no idea 'X'; there are 'DMF', "),
        (["gpu", "--estimate", "--tiny"], "dmf-lab gpu: --tiny is not read with --estimate, which only prints: leave"),
        (["gpu", "--estimate", "--out", "x"], "dmf-lab gpu: --out is not read with --estimate"),
        (
            ["gpu", "--device", "cpu", "--tiny", "--out", "x", "--data-root", "y"],
            "dmf-lab gpu: --data-root is not read with --tiny, whose pictures are made on the spot: leave it out",
        ),
        (["export-explorer", "x", "--search", "0"], "dmf-lab export-explorer: --search must be at least 1, got 0"),
        (["export-explorer", "x", "--most", "0"], "dmf-lab export-explorer: --most must be at least 1, got 0"),
        (
            ["export-explorer", "x", "--weights", "quick-can"],
            "dmf-lab export-explorer: 'quick-can' is of CAN: the explorer shows DMF networks with kernel 1",
        ),
        (
            ["export-explorer", "x", "--dataset", "glyphs-mini", "--data-root", "/nonexistent"],
            "dmf-lab export-explorer: glyphs-mini is rendered here and read from no folder, got root='/nonexistent'",
        ),
        (["calibrate", "quick", "--episodes", "0"], "dmf-lab calibrate: episodes must be at least 1, got 0"),
        (["check-data", ""], "dmf-lab check-data: root is an empty text; expected a folder"),
        (["check-data", "/no/such"], "dmf-lab check-data: /no/such: expected a folder"),
    ],
)
def test_wrong_input_gets_one_sentence(
    given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(given) == 1
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["table", "figure", "speed"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"usage: dmf-lab {command}" in capsys.readouterr().out
