"""The checks of a GPU see what they are there to see; here on a processor, made to err."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from labkit.__main__ import main
from labkit.dmf.model import DMF
from labkit.episodes.augment import Augment
from labkit.methods.backbones import ResNet12
from labkit.studies.gpu import checks
from labkit.studies.gpu.checks import CheckError


def every_second(function: Any, changed: Any) -> Any:
    """`function`, whose second, fourth, ... result is changed: those of the device, after the processor's."""
    calls = []

    def called(*given: Any, **options: Any) -> Any:
        calls.append(1)
        result = function(*given, **options)
        return changed(result) if len(calls) % 2 == 0 else result

    return called


def test_a_score_that_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.method_agrees("dmf", "cpu") == {"scores": 0, "loss": 0, "gradient": 0}
    monkeypatch.setattr(DMF, "score", every_second(DMF.score, lambda scores: scores * 1.001))
    with pytest.raises(CheckError, match=r"dmf: scores: differs by 0\.001 of its norm, and at most 0\.0001"):
        checks.method_agrees("dmf", "cpu")


def test_a_gradient_that_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_another_gradient(losses: Any) -> Any:
        total = losses.total.detach() + 1.01 * (losses.total - losses.total.detach())  # the same value
        return type(losses)(total, losses.few_shot, losses.auxiliary, losses.scores)

    monkeypatch.setattr(DMF, "loss", every_second(DMF.loss, with_another_gradient))
    with pytest.raises(CheckError, match=r"dmf: gradient: differs by 0\.01"):
        checks.method_agrees("dmf", "cpu")


def test_an_augmentation_that_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Augment, "apply", every_second(Augment.apply, lambda x: x + 0.01))
    with pytest.raises(CheckError, match="augmentation differs on cpu"):
        checks.episodes_agree("cpu")


def test_a_bfloat16_that_strays_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def forward(self: Any, x: torch.Tensor, own: Any = ResNet12.forward) -> torch.Tensor:
        calls.append(1)
        return own(self, x) * (1.1 if len(calls) == 3 else 1)  # exact, the processor's, the device's

    monkeypatch.setattr(ResNet12, "forward", forward)
    with pytest.raises(CheckError, match="bfloat16 strays by"):
        checks.bfloat16_agrees("cpu")


def test_a_check_that_fails_is_written_down_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str) -> dict[str, float]:
        raise CheckError("it differs")

    monkeypatch.setattr(checks, "CHECKS", {"one": fails, "two": lambda _: {"x": 1.0}})
    kept: list[list[str]] = []
    done: dict[str, Any] = {}
    checks.run_checks("cpu", time.monotonic() + 60, done, lambda found: kept.append(list(found)))
    assert kept == [["one"], ["one", "two"]]
    assert not done["one"]["passed"]
    assert done["one"]["error"] == "CheckError: it differs"
    assert done["two"]["passed"]
    done = {}
    checks.run_checks("cpu", time.monotonic() - 1, done, kept.append)
    assert done == {}  # no time, no check
    checks.run_checks("cpu", time.monotonic() + 60, done, lambda _: None, {"two"})
    assert list(done) == ["two"]


def test_a_command_without_memory_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from labkit.commands import train as command

    def greedy(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 79 GiB.")

    monkeypatch.setattr(command, "load_images", lambda *_, **__: None)
    monkeypatch.setattr(command, "train", greedy)
    sentence = r"memory does not suffice \(tried to allocate 20\.00 GiB\): lower batch"
    with pytest.raises(SystemExit, match=sentence) as said:
        main(["train", "mini-1shot", str(tmp_path), "--device", "cpu"])
    assert "\n" not in str(said.value)


def test_pictures_that_are_no_numbers_agree_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Augment, "apply", every_second(Augment.apply, lambda made: made * float("nan")))
    with pytest.raises(CheckError, match="compiled augmentation differs in 100"):
        checks.compiled_preparation_agrees("cpu")
