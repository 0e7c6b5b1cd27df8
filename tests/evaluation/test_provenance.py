"""What is recorded beside results; and kept numbers are shown for no other weights and pictures."""

import json
from pathlib import Path

import numpy as np

from labkit.evaluation import chosen, provenance
from labkit.evaluation.protocol import Result
from tests.helpers.toys import toy_images


def test_kept_numbers_are_those_of_these_weights_and_pictures_only(tmp_path: Path) -> None:
    images, models = toy_images(), chosen.load_by_kind(["quick"])
    about = provenance.about(["quick"], models, images)
    assert "accuracy" in about["networks"]["DMF"]
    file = tmp_path / "kept.json"
    assert provenance.kept(file, models, images) is None
    file.write_text(json.dumps(about | {"rows": [1]}))
    found = provenance.kept(file, models, images)
    assert found is not None
    assert found["rows"] == [1]
    assert provenance.kept(file, chosen.load_by_kind(["quick-none"]), images) is None
    assert provenance.kept(file, models, toy_images(seed=1)) is None


def test_it_is_said_whose_numbers_follow() -> None:
    images, models = toy_images(), chosen.load_by_kind(["quick"])
    said = provenance.said(["quick"], models, images)
    assert "DMF: quick (" in said
    assert "trained on glyphs-mini, 68.6 ± 0.5 % on novel classes" in said
    assert repr(images) in said


def test_a_run_is_written_with_its_versions_and_as_a_table(tmp_path: Path) -> None:
    result = Result(70.0, 19.6, (55.0, 85.0), np.array([60.0, 80.0]), {"way": 5, "shot": 1, "episodes": 2, "seed": 0})
    table = provenance.write_results(tmp_path, {"DMF": result}, seed=0, validation=71.5)
    assert table.loc["DMF", "accuracy"] == 70.0
    kept = json.loads((tmp_path / "result.json").read_text())
    assert kept["accuracies"]["DMF"] == result.summary()
    assert (kept["seed"], kept["validation"]) == (0, 71.5)
    assert {"torch", "numpy", "python"} <= set(kept["versions"])
    assert "70.0,19.6" in (tmp_path / "accuracies.csv").read_text()
