"""`dmf-lab ship` measures the rounded weights that it writes."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labkit.data.imageset import ImageSet
from labkit.evaluation.protocol import evaluate
from labkit.models.checkpoints import load_model, read_header, save_model
from labkit.training import shipping
from labkit.training.loop import build_model, train
from labkit.training.settings import PRESETS
from tests.helpers.tiny import BASE, TINY, VALIDATION
from tests.helpers.toys import toy_images

COMMAND = "OMP_NUM_THREADS=1 dmf-lab train tiny FOLDER"


@pytest.fixture(autouse=True)
def tiny_is_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "x.safetensors", "-x", "Mine", "mine\n", "caf\u00e9"])
def test_a_name_that_leaves_the_folder_or_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name must be small letters, digits and hyphens, such as mini-full, got '"):
        shipping.ship(tmp_path / "run", name, COMMAND, None, tmp_path / "weights", replace=True)


def test_a_shipped_model_is_replaced_only_where_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=r"quick is shipped already, as .*: choose another name, or say --repl"):
        shipping.ship(tmp_path / "run", "quick", COMMAND)
    with pytest.raises(FileNotFoundError):  # of the run: the name passes
        shipping.ship(tmp_path / "run", "quick", COMMAND, replace=True)


def test_a_training_on_other_pictures_than_its_setting_names_is_not_shipped(tmp_path: Path) -> None:
    """It would be measured on pictures of which it has seen none."""
    model, where = load_model("quick"), tmp_path / "best.safetensors"
    setting = {"experiment": {"dataset": "glyphs-mini"}}
    save_model(model, where, setting | {"validation": {"dataset": "mypics"}})
    with pytest.raises(
        ValueError, match=r"best\.safetensors was trained on 'mypics', and its setting names 'glyphs-mi"
    ):
        shipping.ship(tmp_path, "mine", COMMAND, None, tmp_path)
    shipping.check_pictures(where, setting | {"validation": {"dataset": "glyphs-mini"}})
    for old in ({}, {"validation": 71.5}, {"validation": {"accuracy": 71.5}}):  # older files and notebook 3's
        shipping.check_pictures(where, setting | old)
    own = {"experiment": {"dataset": "folder"}, "validation": {"dataset": "birds"}}  # recorded by its own name
    shipping.check_pictures(where, own)


@pytest.mark.parametrize(
    ("name", "command", "said"),
    [
        (
            "mine",
            "as I did",
            r"command must be the line that trained the model, such as dmf-lab train quick FOLDER .*'as",
        ),
        ("mine", "dmf-lab", "command must be the line .* got 'dmf-lab': no such line"),
        ("mine", "dmf-lab train tiny 'x", "command must be the line .* No closing quotation"),
        ("mine", "dmf-lab train tiny x --changes {", "command must be the line"),
        ("mine", "dmf-lab train nope x", "command must be the line .* there is no experiment 'nope'"),
        (
            "mine",
            COMMAND + """ x --changes '{"batch": 3, "way": 4}'""",
            "the command trains another .* batch=3, way=4: give",
        ),
        (
            "mine",
            COMMAND + """ --changes '{"choices": {"kernel": 3, "alignment": "rk4"}}'""",
            "another model, with choi",
        ),
        ("quick-can", COMMAND, "the preset 'quick-can' trains another model, with .*: give another name"),
    ],
)
def test_a_model_that_its_name_or_command_does_not_make_again_is_refused(name: str, command: str, said: str) -> None:
    """A test of the repository makes it again, and would fail for good."""
    model, recorded = build_model(TINY, 6, 0), json.loads(json.dumps(TINY.to_json()))
    with pytest.raises(ValueError, match=said):
        shipping.check_command(name, command, model, recorded)
    shipping.check_command("mine", COMMAND, model, recorded)
    shipping.check_command("tiny", "papermill 03_train.ipynb", model, recorded)


@pytest.mark.integration
def test_what_is_shipped_already_stays_where_the_pictures_are_missing(tmp_path: Path) -> None:
    where = replace(VALIDATION.provenance, dataset="miniimagenet")
    validation = replace(VALIDATION, provenance=where)
    train(replace(TINY, dataset="miniimagenet"), BASE, validation, tmp_path / "run", progress=False)
    before, changes = tmp_path / "mine.safetensors", shlex.quote('{"dataset": "miniimagenet"}')
    before.write_bytes(b"what was there")
    with pytest.raises(ValueError, match="miniimagenet needs the folder"):
        shipping.ship(tmp_path / "run", "mine", f"{COMMAND} --changes {changes}", None, tmp_path, replace=True)
    assert before.read_bytes() == b"what was there"


@pytest.mark.integration
def test_a_training_that_has_not_ended_is_not_shipped_by_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TINY, BASE, VALIDATION, tmp_path / "run", until=6, progress=False)
    metrics = tmp_path / "run" / "metrics.jsonl"
    killed_in_its_last_validation = metrics.read_text() + json.dumps({"step": 12, "loss": 1.0}) + "\n"
    for content, step in ((metrics.read_text(), 6), (killed_in_its_last_validation, 6), ("", 0)):
        metrics.write_text(content)
        with pytest.raises(ValueError, match=rf"validated up to step {step} of 12: wait for its end, or .* --unfin"):
            shipping.ship(tmp_path / "run", "mine", COMMAND, None, tmp_path, episodes=4)
    monkeypatch.setattr(shipping, "load_images", lambda *_, **__: toy_images(seed=2, split="test"))
    file = shipping.ship(tmp_path / "run", "mine", COMMAND, None, tmp_path, episodes=4, unfinished=True)
    assert read_header(file)["about"]["step"] == 6


@pytest.mark.integration
@pytest.mark.parametrize("notebook", [True, False], ids=["of notebook 3", "of the command"])
def test_the_accuracy_in_the_file_is_that_of_its_own_weights(
    notebook: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    novel, asked = toy_images(seed=2, split="test"), []

    def load(*where: Any, **how: Any) -> ImageSet:
        asked.append((*where, how["root"]))
        return novel

    monkeypatch.setattr(shipping, "load_images", load)
    train(TINY, BASE, VALIDATION, tmp_path / "run", seed=3, progress=False)
    if notebook:
        result = {"accuracies": {"DMF": {"accuracy": 1.0}}, "validation": 2.0, "versions": {"torch": "old"}}
        (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    file = shipping.ship(tmp_path / "run", "mine", COMMAND, tmp_path / "data", tmp_path, episodes=20)
    about = read_header(file)["about"]
    assert asked == [("toy", "test", tmp_path / "data")]
    assert (about["command"], about["seed"]) == (COMMAND, 3)
    row = f"| `mine` | {about['shipped']['accuracy']:.1f} ± {about['shipped']['ci95']:.1f} |"
    assert f"into labkit/results/README.md, where a test looks for it: a row with {row}" in capsys.readouterr().out
    assert [step for step, _ in about["validation_curve"]] == [6, 12]
    again = {str(k): evaluate(load_model(file), novel, 3, k, 5, 20).summary() for k in (1, 5)}
    assert about["shipped_by_shot"] == again
    assert about["shipped"] == again["1"]
    assert ("result" in about, about["versions"] == {"torch": "old"}) == (notebook, notebook)
