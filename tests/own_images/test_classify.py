"""Your own images: any file, any shape, unequal shots; probabilities that hold, refusals, and errors that say what."""

from __future__ import annotations

import dataclasses
import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import log_softmax

import labkit
from labkit.common.places import PACKAGE
from labkit.episodes.preprocessing import Preprocessing
from labkit.methods.base import Method
from labkit.models.checkpoints import read_header
from labkit.own_images import calibration, classify, open_episodes, pictures
from labkit.own_images.calibration import fit_temperature
from labkit.own_images.classify import NONE, Classified, SupportSet

KEPT = Preprocessing(40, "none")
BARS = [round(255 * v) for v in KEPT.mean]
PICTURES = PACKAGE / "own_images" / "examples"


@pytest.fixture(scope="module")
def model() -> Method:
    quick: Method = labkit.load_model("quick")
    return quick


@pytest.fixture(scope="module")
def drawn(model: Method) -> SupportSet:
    return labkit.enrol(model, PICTURES / "support")


def noise(seed: int, size: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(width: int, height: int) -> Image.Image:
    """Red above, blue below."""
    image = Image.new("RGB", (width, height), "blue")
    image.paste("red", (0, 0, width, height // 2))
    return image


def test_exif_rotation_is_undone_before_the_picture_is_made_square() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    lying = halves(60, 80).transpose(Image.Transpose.ROTATE_90)
    assert lying.size == (80, 60)
    found = pictures.square(encoded(lying, "JPEG", quality=95, exif=exif), KEPT)
    assert (np.abs(found[:, [0, -1]].astype(int) - BARS) <= 1).all(), "upright again, it is tall: bars left and right"
    assert (found[4, 20] > 200).tolist() == [True, False, False]
    assert (found[-5, 20] > 200).tolist() == [False, False, True]


def test_palette_transparency_and_grey() -> None:
    image = Image.new("P", (50, 50), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (0, 0, 25, 50))
    found = pictures.square(encoded(image, transparency=0), KEPT)
    assert found[20, 35].tolist() == [255, 255, 255], "what is transparent lies over white"
    assert found[20, 5].tolist() == [0, 255, 0]
    for mode, value in (("L", 90), ("I;16", 90 * 256)):
        assert np.unique(pictures.square(encoded(Image.new(mode, (30, 30), value)), KEPT)).tolist() == [90]
    assert (pictures.square(Image.new("RGBA", (30, 30), (0, 0, 0, 0)), KEPT) == 255).all()


def test_letterbox_keeps_all_and_crop_keeps_the_middle() -> None:
    """Planted: the outer quarters of a wide picture are green, its middle half is red, and so for a tall one."""
    wide = np.zeros((100, 200, 3), np.uint8)
    wide[..., 1], wide[:, 50:150] = 255, (255, 0, 0)
    for pixels, turn in ((wide, False), (wide.swapaxes(0, 1), True)):
        box, crop = (pictures.square(pixels, KEPT, fit) for fit in ("letterbox", "crop"))
        box = box.swapaxes(0, 1) if turn else box
        assert (box[:10] == BARS).all()
        assert (box[30:] == BARS).all()
        assert (box[14:26, :6] == (0, 255, 0)).all()
        assert (box[14:26, 14:26] == (255, 0, 0)).all()
        assert (box[14:26, 34:] == (0, 255, 0)).all()
        assert (crop == (255, 0, 0)).all()
    assert (pictures.square(np.zeros((1, 9000, 3), np.uint8), KEPT)[19] == 0).all(), "a line remains a line"


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    for fit in ("letterbox", "crop"):
        np.testing.assert_array_equal(pictures.square(noise(0), KEPT, fit), noise(0))


def test_unreadable_files_are_named_and_skipped(model: Method, tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(noise(1, 200)), "JPEG")
    for name, content in (("good.jpg", whole), ("cut.jpg", whole[:3000]), ("notes.txt", b"a word"), (".hidden", b"")):
        (tmp_path / "one" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "one" / name).write_bytes(content)
    (tmp_path / "two").mkdir()
    halves(90, 20).save(tmp_path / "two" / "a.gif")
    (tmp_path / "beside.txt").write_text("no class")
    with pytest.warns(UserWarning, match="2 unreadable pictures were skipped") as caught:
        support = labkit.enrol(model, tmp_path)
    assert sorted(support.skipped) == ["one/cut.jpg", "one/notes.txt"]
    assert support.names == ("one", "two")
    assert support.shots == (1, 1)
    assert "cut.jpg" in str(caught[0].message)
    with pytest.warns(UserWarning, match=r"gone\.png"):
        found = support.classify(["gone.png", noise(2), whole])
    assert found.files == ("query 2", "query 3")
    assert list(found.skipped) == ["gone.png"]


def test_a_decompression_bomb_is_skipped_unread() -> None:
    header = encoded(Image.new("1", (9000, 9000)))
    with pytest.raises(ValueError, match="9000 x 9000 pixels"):
        pictures.square(header, KEPT)


def test_numbers_of_pictures_that_are_far_apart_are_warned_of(model: Method) -> None:
    grey = [np.full((40, 40, 3), level, np.uint8) for level in range(0, 200, 40)]
    with pytest.warns(UserWarning, match="from 1 to 4 pictures: those with few will be answered too seldom"):
        labkit.enrol(model, {"a": grey[:1], "b": grey[1:5]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labkit.enrol(model, {"a": grey[:1], "b": grey[1:4]})


def test_unequal_shots_equal_the_masked_computation(model: Method) -> None:
    classes = {"a": [noise(1)], "b": [noise(2), noise(3), noise(4)], "c": [noise(5), noise(6)]}
    queries = [noise(k) for k in range(10, 17)]
    found = labkit.enrol(model, classes).classify(queries)
    with torch.inference_mode():
        for n, shots in enumerate(classes.values()):  # each class alone, with its own number of shots
            shown = [KEPT.normalise(KEPT.to_unit(torch.tensor(np.stack(p)))) for p in (shots, queries)]
            alone = model(shown[0][None, None], shown[1][None])[0, :, 0]
            np.testing.assert_allclose(found.scores[:, n], alone.numpy(), atol=1e-4)
    together = labkit.classify(model, support=classes, query=queries[3])
    np.testing.assert_allclose(together.scores[0], found.scores[3], atol=1e-4)


def test_enrolment_leaves_the_model_in_its_mode(model: Method) -> None:
    model.train()
    try:
        labkit.classify(model, {"a": noise(1), "b": noise(2)}, noise(3))
        assert model.training
    finally:
        model.eval()


def test_temperature_is_that_of_a_brute_force_grid() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 4000)
    scores = 6.0 * (rng.normal(size=(4000, 5)) + 1.5 * np.eye(5)[labels])
    grid = np.geomspace(0.5, 20, 800)
    loss = [-log_softmax(scores / t, axis=1)[np.arange(4000), labels].mean() for t in grid]
    found = calibration.best_temperature(scores, labels)
    assert found == pytest.approx(grid[int(np.argmin(loss))], rel=5e-3)
    bins = [open_episodes.reliability(np.exp(log_softmax(scores / t, axis=1)), labels) for t in (1.0, found)]
    assert open_episodes.calibration_error(bins[1]) < 0.02 < 0.1 < open_episodes.calibration_error(bins[0])


def test_measured_rates_by_hand() -> None:
    scores = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [1.0, 0.0]])
    played = open_episodes.Played(scores, np.array([0.9, 0.3, 0.5, 0.4]), np.array([0, 1, 1, 2]))
    found = open_episodes.measure(played, temperature=2.0, threshold=0.45)
    assert found["accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["auroc"] == pytest.approx(2 / 3, abs=1e-4), "two of three who belong are more alike than the outsider"
    assert found["false_refusals"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["outsiders_refused"] == 1
    assert found["right_refused"] == 0.5, "one of the two right answers is below the threshold"
    sure = 1 / (1 + np.exp(-1))
    assert found["ece_after"] == pytest.approx(abs(2 / 3 - sure), abs=1e-4)


def fitted(way: int, shot: int, temperature: float) -> calibration.Fitted:
    thresholds = tuple(np.linspace(0.1, 0.7, len(calibration.REFUSALS)))
    return calibration.Fitted(way, shot, 2, 0, temperature, thresholds, {})


def test_between_and_beyond_the_grid() -> None:
    grid = calibration.Calibration(tuple(fitted(w, k, 1 + w / 10 + 1 / k) for w in (2, 8) for k in (1, 2, 5)))
    assert grid.temperature([1, 1]) == pytest.approx(2.2)
    assert grid.temperature([2] * 4) == pytest.approx(2.0), "half way from 2 to 8 in the logarithm"
    assert grid.temperature([1, 2]) == pytest.approx(1.2 + 0.75)
    assert grid.temperature([9] * 20) == pytest.approx(2.0)
    assert grid.threshold([1, 1], 0.05) == pytest.approx(0.3)
    assert grid.threshold([1, 1], 0.15) == pytest.approx(0.45)
    with pytest.raises(ValueError, match="refuse must be 0 or from"):
        grid.threshold([1, 1], 0.9)
    with pytest.raises(ValueError, match="every way with every shot"):
        calibration.Calibration((fitted(2, 1, 1.0), fitted(5, 2, 1.0)))


def test_the_share_refused_by_default_is_the_largest_that_right_answers_can_bear() -> None:
    costs = [tuple(c * k for c in (0.001, 0.004, 0.01, 0.02, 0.06, 0.1, 0.3)) for k in (0.5, 1.5)]
    fits = [dataclasses.replace(fitted(5, k, 1.0), right_refused=c) for k, c in zip((1, 5), costs, strict=True)]
    assert calibration.chosen_refusal(fits, most=0.02) == 0.1
    assert calibration.chosen_refusal(fits, most=0.019) == 0.05
    assert calibration.chosen_refusal(fits, most=0.0005) == 0
    own = calibration.Calibration(tuple(fits), 0.05)
    assert own.threshold([1] * 5) == own.threshold([1] * 5, 0.05) != own.threshold([1] * 5, 0.1)
    assert calibration.Calibration(tuple(fits), 0.0).threshold([1] * 5) == -np.inf


def test_photographs_are_answered_by_a_shipped_network_that_saw_photographs() -> None:
    assert read_header(classify.default_weights())["about"]["experiment"]["dataset"] == "miniimagenet"
    assert read_header(classify.default_weights(photographs=False))["about"]["experiment"]["dataset"] == "glyphs-mini"


def test_fit_temperature_needs_no_more_than_a_model_and_images(model: Method) -> None:
    images = labkit.load_images("glyphs-mini", "val", size=40, per_class=8, progress=False)
    fit = fit_temperature(model, images, way=3, shot=2, episodes=4, seed=0)
    assert fit == fit_temperature(model, images, way=3, shot=2, episodes=4, seed=0)
    assert fit.seen["queries"] == 60
    assert 0.05 < fit.temperature < 20
    assert list(fit.thresholds) == sorted(fit.thresholds)
    assert list(fit.right_refused) == sorted(fit.right_refused)
    own = labkit.classify(model, {"a": noise(1), "b": noise(2)}, noise(3), calibration=labkit.Calibration((fit,)))
    np.testing.assert_allclose(own.probabilities.sum(1), 1)
    ratio = np.diff(own.scores)[0] / np.diff(np.log(own.probabilities))[0]
    assert ratio == pytest.approx(fit.temperature, rel=1e-4)


def test_shipped_calibration_belongs_to_the_shipped_weights(model: Method) -> None:
    """If this fails, the weights changed: run the command in results/calibration.json again."""
    assert calibration.shipped_calibration(model) is not None
    other = labkit.load_model("quick")
    with torch.no_grad():
        other.filter_conv.weight.mul_(1.5)
    assert calibration.shipped_calibration(other) is None
    with pytest.warns(UserWarning, match="no calibration"):
        found = labkit.classify(other, {"a": noise(1), "b": noise(2)}, [noise(3)])
    assert not found.calibrated
    assert found.threshold is None
    assert "uncalibrated" in repr(found)


def test_pictures_that_ship(drawn: SupportSet, tmp_path: Path) -> None:
    assert drawn.names == ("arrow", "fish", "house", "spiral", "star")
    assert drawn.shots == (3, 1, 2, 2, 1)
    assert not drawn.skipped
    assert (drawn.pictures[~drawn.mask.numpy()] == 0).all()
    modes = {p.name: Image.open(p).mode for p in (PICTURES / "query").iterdir()}
    assert {"L", "P", "RGBA", "RGB"} == set(modes.values())
    sizes = sum(p.stat().st_size for p in PICTURES.rglob("*") if p.is_file())
    assert sizes < 200_000
    found = drawn.classify(PICTURES / "query")
    assert len(found.files) == len(modes)
    task = found.task()
    assert task.files == found.files
    assert task.shots == drawn.shots
    assert task.query.shape == (len(modes), 40, 40, 3)


def test_csv_round_trip(drawn: SupportSet, tmp_path: Path) -> None:
    found = drawn.classify({"a, <b>.png": noise(1), "ü.png": halves(10, 90)}, refuse=0.5)
    table = pd.read_csv(found.to_csv(tmp_path / "runs" / "answers.csv"))
    pd.testing.assert_frame_equal(table, found.table(), check_exact=True, check_dtype=False)
    assert list(table["file"]) == ["a, <b>.png", "ü.png"]


def test_a_name_that_is_a_formula_is_text_in_the_csv(model: Method, tmp_path: Path) -> None:
    support = {"=1+1": noise(1), "@b": noise(2)}
    found = labkit.classify(model, support, {"=cmd|' /C calc'!A0.png": noise(1), "b-2.png": noise(2)}, refuse=0)
    table = pd.read_csv(found.to_csv(tmp_path / "answers.csv"))
    assert list(table["file"]) == ["'=cmd|' /C calc'!A0.png", "b-2.png"]
    assert list(table["answer"]) == [f"'{answer}" for answer in found.answers]
    assert not [c for c in table.columns if c.startswith(("=", "+", "-", "@"))]
    assert set(found.answers) <= set(support)


def test_none_of_these_is_an_answer(drawn: SupportSet) -> None:
    queries = [*drawn.pictures[:, 0], noise(1)]
    never, often = (drawn.classify(queries, refuse=refuse) for refuse in (0, 0.5))
    assert never.answers[:5] == drawn.names
    assert NONE not in never.answers
    assert often.threshold is not None
    assert [a == NONE for a in often.answers] == (often.likeness < often.threshold).tolist()
    assert often.answers[5] == NONE
    assert often.best == never.answers, "what is refused has a best class all the same"
    assert often.table()["best"].tolist() == list(often.best)
    assert isinstance(often, Classified)


def test_what_is_wrong_is_said(model: Method, drawn: SupportSet, tmp_path: Path) -> None:
    good = noise(1)
    for support, message in (
        ({"a": good}, "at least 2 classes"),
        ({"a": good, "b": []}, "class 'b': there is no picture"),
        ({"a": good, "b": b"no picture"}, "class 'b': not one of 1 pictures can be read"),
        ({"a": good, NONE: good}, "give that class another name"),
        ({"a": good, "b": good.astype(float)}, "must be uint8 .*, got float64"),
        (tmp_path, "at least 2 classes"),
        (tmp_path / "absent", "is no folder"),
    ):
        with pytest.raises(ValueError, match=message):
            labkit.enrol(model, support)
    with pytest.raises(ValueError, match="fit must be"):
        labkit.enrol(model, {"a": good, "b": good}, fit="squash")
    for query, message in (([], "give at least one picture"), ([b""], "query: not one of 1"), (tmp_path, "no picture")):
        with pytest.raises(ValueError, match=message):
            drawn.classify(query)
    with pytest.raises(ValueError, match="refuse must be"):
        drawn.classify(good, refuse=2)


def test_an_open_file_and_any_bytes_are_one_picture(drawn: SupportSet, tmp_path: Path) -> None:
    content, file = encoded(halves(30, 30)), tmp_path / "a.png"
    buffer = io.BytesIO()
    halves(30, 30).save(buffer, "PNG")  # and its end is where it stands now
    file.write_bytes(content)
    expected = drawn.classify(content)
    with file.open("rb") as opened, file.open() as text:
        for given in (buffer, opened, bytearray(content), memoryview(content)):
            for query in (given, [given, given], {"query 1": given}):
                found = drawn.classify(query)
                assert set(found.answers) == set(expected.answers)
                assert len(found.files) == (2 if isinstance(query, list) else 1)
                assert np.array_equal(found.pictures[-1], expected.pictures[0])
        with pytest.raises(ValueError, match=r'query 1: it was opened as text; open it with open\(..., "rb"\)'):
            drawn.classify(text)
    with pytest.raises(TypeError, match=r"query must be .* its \.numpy\(\)\), got Tensor uint8 \[40, 40, 3\]"):
        drawn.classify(torch.from_numpy(noise(1)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"query 1: a picture must be a path, .* got Tensor uint8 \[40, 40, 3\]"):
        drawn.classify([torch.from_numpy(noise(1))])  # type: ignore[list-item]


def test_dropped_files_are_sorted_by_name() -> None:
    names = ["cat 1.jpg", "cat-2.png", "cat(3).png", "dog_01.webp", "no entry.png", "7.png"]
    found = pictures.by_name(dict.fromkeys(names, b""))
    assert {k: list(v) for k, v in found.items()} == {
        "cat": names[:3],
        "dog": names[3:4],
        "no entry": names[4:5],
        "7": names[5:],
    }


def test_files_of_one_name_from_two_folders_stay_apart(drawn: SupportSet, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(encoded(halves(30, 30)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = drawn.classify([tmp_path / "x" / "1.png", tmp_path / "y" / "1.png"])
    assert len(set(found.files)) == 2
