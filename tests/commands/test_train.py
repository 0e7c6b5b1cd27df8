"""`dmf-lab train` refuses what cannot be trained before it loads pictures."""

from pathlib import Path

import pytest

from labkit.__main__ import main
from labkit.commands import train
from tests.helpers.tiny import BASE, TINY, VALIDATION


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--devices", "0"], "--devices must be at least 1, got 0"),
        (["--nodes", "0"], "--nodes must be at least 1, got 0"),
        (["--seed", f"{2**64}"], f"seed must be from 0 to {2**64 - 1}, got {2**64}"),
        (
            ["--changes", '{"backbone": "resnet99"}'],
            "backbone must be one of ['conv4', 'features', 'resnet12', 'wrn28'] or a module, got 'resnet99'",
        ),
        (
            ["--changes", '{"backbone_options": {"depth": 3}}'],
            "the backbone 'resnet12' has no option 'depth'; there are block, drop, last_pool, ramp, width",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(
    given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "load_images", lambda *_, **__: pytest.fail("it loads pictures"))
    assert main(["train", "quick", str(tmp_path / "x"), "--device", "cpu", *given]) == 1
    assert capsys.readouterr().err == f"dmf-lab train: {said} (--traceback shows where)\n"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (FloatingPointError("the loss is not finite at step 3"), "the loss is not finite at step 3 (--traceback sh", 1),
        (KeyboardInterrupt("interrupted after step 3 of 12"), "interrupted after step 3 of 12\n", 130),
        (KeyboardInterrupt(), "interrupted\n", 130),
    ],
)
def test_a_training_that_diverges_or_is_interrupted_ends_in_a_sentence(
    error: BaseException,
    said: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(train, "experiment", lambda *_, **__: TINY)
    monkeypatch.setattr(train, "load_images", lambda _, split, **__: BASE if split == "train" else VALIDATION)
    monkeypatch.setattr(train, "train", fails)
    given = ["train", "tiny", str(tmp_path), "--device", "cpu"]
    assert main(given) == code
    assert f"dmf-lab train: {said}" in capsys.readouterr().err
    with pytest.raises(type(error)):
        main([*given, "--traceback"])
