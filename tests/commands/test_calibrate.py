"""`dmf-lab calibrate`: what is fitted on validation classes is kept with its default of refusal, and found again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import labkit
from labkit.__main__ import main
from labkit.commands import calibrate
from labkit.data.imageset import ImageSet
from labkit.own_images import calibration, calibration_record

REAL = labkit.load_images


def few(*given: Any, **options: Any) -> ImageSet:
    images: ImageSet = REAL(*given, **options | {"per_class": 16})
    kept = np.flatnonzero(images.labels < 12)
    names = images.class_names[:12]
    return replace(
        images,
        pixels=images.pixels[kept],
        labels=images.labels[kept],
        class_names=names,
        categories=None,
        packed_masks=None,
    )


@pytest.mark.integration
def test_a_model_is_fitted_measured_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibration_record, "load_images", few)
    monkeypatch.setattr(calibration_record, "WAYS", (5,))
    monkeypatch.setattr(calibration_record, "UNSEEN", ())
    monkeypatch.setattr(
        calibration_record, "calibrate", lambda *a, **k: calibration.calibrate(*a, ways=(5,), shots=(1, 5), **k)
    )
    out = tmp_path / "record.json"
    out.write_text(json.dumps({"what": "", "refuse": 0.1, "models": {"another": {"kept": True}}}))
    assert main(["calibrate", "quick", "--episodes", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "by default a share" in said
    for column in ("accuracy", "calibration error", "a sixth class refused", "right answers refused"):
        assert column in said
    assert all(f"{shot} a class" in said for shot in (1, 3, 5))
    record = json.loads(out.read_text())
    assert record["models"]["another"] == {"kept": True}
    own = record["models"]["quick"]
    assert own["command"] == "dmf-lab calibrate quick --episodes 2 --seed 0"
    assert {row["shot"] for row in own["novel"]} >= {1, 3, 5}
    assert all("right_refused" in row for row in own["novel"])
    monkeypatch.setattr(calibration, "RESULTS", out)
    record["models"] = {"quick": own}
    out.write_text(json.dumps(record))
    found = calibration.shipped_calibration(labkit.load_model("quick"))
    assert found is not None
    assert found.refuse == own["refuse"] == calibration.chosen_refusal(found.fits)


def test_every_model_is_kept_as_it_is_fitted_under_a_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = labkit.models.checkpoints.read_header("quick")["about"]
    files = [tmp_path / run / "best.safetensors" for run in ("a", "b")]
    for file in files:
        labkit.save_model(labkit.load_model("quick"), file, about)
    out, fitted = tmp_path / "record.json", []

    def report(name: str, *_: Any) -> dict[str, Any]:
        fitted.append(name)
        if len(fitted) == 3:
            raise OSError("no room left")
        return {"refuse": 0.1, "novel": [], "of": name, "fingerprint": [float(len(fitted))]}

    monkeypatch.setattr(calibrate, "fit_and_measure", report)
    monkeypatch.setattr(calibrate, "shown", lambda _: pd.DataFrame())
    with pytest.raises(FileNotFoundError):
        main(["calibrate", "quick", "no-such", "--out", str(out), "--traceback"])
    assert fitted == []  # said before anything is fitted
    assert main(["calibrate", *map(str, files), "quick", "--out", str(out)]) == 1
    assert {name: of["of"] for name, of in json.loads(out.read_text())["models"].items()} == {
        "best": str(files[0]),
        "b/best": str(files[1]),
    }


def test_a_later_call_leaves_another_model_of_the_same_name_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every training leaves a ``best.safetensors``; models are told apart by what they compute."""
    about = labkit.models.checkpoints.read_header("quick")["about"]
    out, signs = tmp_path / "record.json", {}

    def report(name: str, *_: Any) -> dict[str, Any]:
        return {"refuse": 0.1, "novel": [], "of": Path(name).parent.name, "fingerprint": [signs.get(name, 0.0)]}

    monkeypatch.setattr(calibrate, "fit_and_measure", report)
    monkeypatch.setattr(calibrate, "shown", lambda _: pd.DataFrame())
    files = {run: tmp_path / run / "best.safetensors" for run in ("a", "b", "c/b")}
    for sign, file in enumerate(files.values()):
        labkit.save_model(labkit.load_model("quick"), file, about)
        signs[str(file)] = float(sign)
    for run in ("a", "b", "c/b", "b", "a"):
        assert main(["calibrate", str(files[run]), "--out", str(out)]) == 0
    assert {name: of["fingerprint"] for name, of in json.loads(out.read_text())["models"].items()} == {
        "best": [0.0],
        "b/best": [1.0],
        "b/best 2": [2.0],
    }
    assert "record.json holds another model as 'best': this one is kept as 'b/best 2'" in capsys.readouterr().out
    for signs["quick"] in (7.0, 8.0):  # shipped weights that were trained further take the place of the old ones
        assert main(["calibrate", "quick", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["models"]["quick"]["fingerprint"] == [8.0]


def test_a_model_that_names_no_data_set_gets_a_sentence(tmp_path: Path) -> None:
    model = labkit.load_model("quick")
    labkit.save_model(model, tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match="does not say which data set it was trained on"):
        main(["calibrate", str(tmp_path / "mine.safetensors"), "--out", str(tmp_path / "o.json"), "--traceback"])


def test_a_model_of_other_pictures_than_its_setting_names_is_not_fitted_on_those(tmp_path: Path) -> None:
    about = {"experiment": {"dataset": "glyphs-mini"}, "validation": {"dataset": "mypics"}}
    labkit.save_model(labkit.load_model("quick"), tmp_path / "mine.safetensors", about)
    with pytest.raises(ValueError, match="was trained on 'mypics', and its setting names 'glyphs-mini'"):
        main(["calibrate", str(tmp_path / "mine.safetensors"), "--out", str(tmp_path / "o.json"), "--traceback"])


def test_a_damaged_record_is_said_before_anything_is_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "record.json"
    out.touch()
    assert main(["calibrate", "quick", "--out", str(out)]) == 1
    assert "record.json is damaged" in capsys.readouterr().err
    assert out.read_bytes() == b""
