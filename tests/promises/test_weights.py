"""The shipped weights are what they say they are."""

import json
import re
import warnings

import pytest

from labkit.data import load_images
from labkit.evaluation.protocol import evaluate
from labkit.models.checkpoints import WEIGHTS, load_model, read_header
from labkit.training.shipping import check_command
from tests.helpers.places import ROOT

SHIPPED = sorted(WEIGHTS.glob("*.safetensors"))


def test_all_together_stay_small() -> None:
    assert SHIPPED
    assert sum(file.stat().st_size for file in SHIPPED) < 60e6


@pytest.mark.integration
@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_they_reach_the_accuracy_that_is_written_in_them(file) -> None:  # type: ignore[no-untyped-def]
    about = read_header(file)["about"]
    assert {"command", "experiment", "seed", "versions", "validation_curve", "shipped"} <= set(about)
    settings = about["experiment"]
    if not settings["dataset"].startswith("glyphs"):
        pytest.skip(f"needs {settings['dataset']}")
    novel = load_images(
        settings["dataset"], "test", size=settings["size"], per_class=settings["per_class"], progress=False
    )
    if novel.provenance.digest != about["shipped"]["digest"]:
        pytest.skip("another release of the fonts or of Pillow renders other images")
    result = evaluate(load_model(file), novel, shot=settings["shot"], episodes=500)
    assert result.accuracy == pytest.approx(about["shipped"]["accuracy"], abs=1.5)  # two intervals of 500 episodes


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_their_preset_trains_the_same_model_in_the_same_way(file) -> None:  # type: ignore[no-untyped-def]
    """Options that were added since, which an older recipe does not name, have their defaults.

    The preset is that of the file's name, or what the command in the file asks for.
    """
    about = read_header(file)["about"]
    check_command(file.stem, about["command"], load_model(file), about["experiment"])


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_the_readme_shows_the_accuracy_that_is_written_in_them(file) -> None:  # type: ignore[no-untyped-def]
    shipped = read_header(file)["about"]["shipped"]
    row = re.search(
        rf"\| `{file.stem}` \| \**([\d.]+ ± [\d.]+)", (ROOT / "labkit" / "results" / "README.md").read_text()
    )
    assert row, f"labkit/results/README.md has no row for {file.stem}"
    assert row[1] == f"{shipped['accuracy']:.1f} ± {shipped['ci95']:.1f}"


def test_quick_has_three_seeds_above_sixty_percent_and_its_baseline() -> None:
    rows = json.loads((WEIGHTS.parent / "results" / "quick.json").read_text())["runs"]
    quick = [r for r in rows if r["name"] == "quick"]
    assert sorted(r["seed"] for r in quick) == [0, 1, 2]
    for row in quick:
        assert row["novel"]["DMF"]["accuracy"] >= 60
        assert row["novel"]["DMF"]["episodes"] == 2000
        assert row["command"].startswith("papermill 03_train.ipynb")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_each_carries_its_checksum(file) -> None:  # type: ignore[no-untyped-def]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a file without a checksum is read with a warning
        read_header(file)
