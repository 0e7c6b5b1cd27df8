"""``dmf-lab gpu``, rehearsed with tiny sizes: all of it, cut off, and gone on with."""

import itertools
import json
import re
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from labkit.__main__ import main
from labkit.common.errors import DataError, FailedRunsError
from labkit.models.checkpoints import load_model, save_model
from labkit.models.registry import METHODS
from labkit.models.small import small_model
from labkit.studies.gpu import flagship as module
from labkit.studies.gpu import parts, run
from labkit.studies.gpu.flagship import VALIDATIONS, Schedule, fitting, flagship
from labkit.studies.gpu.works import tiny, tiny_pictures, works
from labkit.training.checkpoints import load_state
from labkit.training.loop import build_model
from labkit.training.step import GRAPHS, LOSS_ALONE, trial

PICTURES = tuple(tiny_pictures(split) for split in ("train", "val", "test"))
TINY = tiny("mini-1shot", works()["mini-1shot"])


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.integration
def test_the_whole_command_is_rehearsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for limit in ("CHECK_SECONDS", "SPEED_SECONDS"):
        monkeypatch.setattr(run, limit, 600.0)  # however busy the machine is
    call = ["gpu", "--device", "cpu", "--tiny", "--seconds", "2400", "--out", str(tmp_path), "--works", "mini-1shot"]
    assert main(call) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Estimate, not measured")
    assert any(line.startswith("checks: ") and "0 failed" in line for line in said)
    begun = next(i for i, line in enumerate(said) if line.startswith("mini-1shot: 30 of 30 steps at "))
    assert "± " in said[begun + 1]  # the schedule is told before, the accuracy after
    assert all(check["passed"] for check in read(tmp_path / "checks.json").values())
    speed = read(tmp_path / "speed.json")
    assert not [part for part, found in speed.items() if "error" in found]
    assert {"product", "compilers", "profile", "step", "head", "test"} <= speed.keys()
    assert list(speed)[:2] == ["profile", "compilers"]  # after the training, which has compiled its step already
    checked = [i for i, line in enumerate(said) if line.startswith("checks: ")]
    assert checked[0] < begun < checked[1]  # what training stands on, the training, and only then the rest
    assert said[checked[0]] == "checks: 4 passed, 0 failed "
    assert speed["compilers"]["fastest"] == "eager"
    assert speed["compilers"]["largest_difference"] == {"eager": 0.0}
    kinds = speed["profile"]["kinds"]
    assert max(kinds, key=kinds.get) in ("convolutions and matrix products", "others")
    assert sum(kinds.values()) == pytest.approx(speed["profile"]["busy"])
    made = read(tmp_path / "made.json")
    assert made["versions"]["torch"] == torch.__version__.partition("+")[0] or made["versions"]["torch"]
    result = read(tmp_path / "mini-1shot.json")
    assert result["novel"]["episodes"] == 8
    assert result["published"] is None  # squares are not miniImageNet
    assert result["curve"][-1]["step"] == 30
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.json") if file.name != "made.json"}
    assert main([*call, "mini-1shot-feat"]) == 0  # goes on: what is done is not done again
    assert {file: file.stat().st_mtime_ns for file in before} == before
    of_feat = read(tmp_path / "mini-1shot-feat.json")["experiment"]
    assert of_feat["method"] == "feat"
    assert [phase.get("batch", "episodes") for phase in of_feat["phases"]] == ["pictures", "episodes"]
    del speed["profile"]
    (tmp_path / "speed.json").write_text(json.dumps(speed))
    assert main(call) == 0
    assert "profile" not in read(tmp_path / "speed.json")  # nothing is compiled in a call that trains nothing


@pytest.mark.parametrize("given", [["--seconds", "inf"], ["--seconds", "nan"], ["--seconds", "-5"], ["--seed", "-1"]])
def test_seconds_and_seeds_that_cannot_be_are_refused_before_anything_is_written(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what, value = given
    assert main(["gpu", "--device", "cpu", "--tiny", "--out", str(tmp_path / "new"), f"{what}={value}"]) == 1
    said = {"--seconds": f"seconds must be a finite number above 0, got {float(value):g}"}
    assert said.get(what, "seed must be from 0 to") in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", [name for name, e in works().items() if e.method != "dmf"])
def test_every_rival_can_be_rehearsed(name: str) -> None:
    e = tiny(name, works()[name])
    for phase in e.plan:  # of which `trial` steps the first
        alone = replace(e, phases=(phase,), steps=phase.steps)
        with trial(build_model(e, 6, 0), alone, PICTURES[0], "cpu", None) as step:
            assert step()[0].isfinite(), phase


def test_what_measures_a_step_has_compiled_it_for_the_training() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    for seed in (0, 1):
        with trial(build_model(TINY, 6, seed), TINY, PICTURES[0], "cpu", backend) as step:  # type: ignore[arg-type]
            step()
    assert len(graphs) == 2  # what prepares the pictures, and the loss


@pytest.mark.integration
def test_a_training_that_is_cut_off_goes_on_with_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    e = replace(TINY, steps=60)
    call = {"episodes": 8, "count": 25}
    fixed = Schedule(60, 60, 0.01, 0.0, 0.0)
    monkeypatch.setattr(module, "measure", lambda *_: fixed)
    clock = itertools.count()  # it is asked once before the training, and once a step
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock), perf_counter=time.perf_counter))
    assert flagship("cut", e, PICTURES, tmp_path, "cpu", 10.0 + module.SAVING, **call) is None
    assert "cut: stopped in time, after step 11 of 60, which is saved" in capsys.readouterr().out
    assert load_state(tmp_path / "cut" / "last.pt")["step"] == 11
    assert read(tmp_path / "cut.unfinished.json")["novel"]["episodes"] == 8
    assert parts.load_parts(tmp_path, "cut.unfinished").choices == load_model(tmp_path / "cut/best.safetensors").choices
    monkeypatch.setattr(module, "time", time)
    monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("its schedule is fixed already"))
    result = flagship("cut", e, PICTURES, tmp_path, "cpu", time.monotonic() + 60, **call)
    assert result is not None
    assert not list(tmp_path.glob("cut.unfinished.*"))
    monkeypatch.setattr(module, "measure", lambda *_: fixed)
    whole = flagship("whole", e, PICTURES, tmp_path, "cpu", time.monotonic() + 60, **call)
    assert whole is not None
    assert result["curve"] == whole["curve"]
    assert result["novel"] == whole["novel"]


@pytest.mark.integration
def test_what_fails_is_written_down_and_the_next_training_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = run.flagship

    def broken(name: str, *given: Any, **options: Any) -> Any:
        if name == "mini-1shot":
            raise ModuleNotFoundError("no module named 'x'")
        return real(name, *given, **options)

    for limit in ("CHECK_SECONDS", "SPEED_SECONDS"):
        monkeypatch.setattr(run, limit, -1.0)
    monkeypatch.setattr(run, "flagship", broken)
    with pytest.raises(FailedRunsError, match=r"1 run failed, and .* mini-1shot: ModuleNotFoundError"):
        run.run(None, tmp_path, 600.0, "cpu", small=True, names=["mini-1shot", "mini-1shot-maml"])
    assert (tmp_path / "mini-1shot-maml.json").exists()
    assert "no module named 'x'" in read(tmp_path / "mini-1shot.error.json")["error"]
    assert "mini-1shot failed: ModuleNotFoundError" in capsys.readouterr().out
    monkeypatch.setattr(run, "flagship", real)
    assert list(run.run(None, tmp_path, 600.0, "cpu", small=True, names=["mini-1shot"])) == ["mini-1shot"]
    assert not (tmp_path / "mini-1shot.error.json").exists()
    with pytest.raises(ValueError, match=r"was begun with .*'tiny': True.*, and this call has .*'tiny': False"):
        run.run(tmp_path, tmp_path, 600.0, "cpu")
    with pytest.raises(DataError, match="expected a folder with the data set in it"):
        run.run(tmp_path / "nowhere", tmp_path / "new", 600.0, "cpu")


def test_a_damaged_file_is_named_with_what_its_loss_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("speed", "x.schedule", "x.seconds"):
        (tmp_path / f"{name}.json").write_text('{"head')
    with pytest.raises(ValueError, match=r"speed\.json is damaged .*; delete it, and it is made anew"):
        run.speed_table(tmp_path / "speed.json", PICTURES, "cpu", True, TINY, (), 0.0)
    with pytest.raises(ValueError, match=r"x\.schedule\.json is damaged .*; delete it and the folder .*/x, and the tr"):
        flagship("x", TINY, PICTURES, tmp_path, "cpu", time.monotonic() + 60)
    monkeypatch.setattr(module, "_schedule", lambda *_: Schedule(60, 60, 0.01, 0.0, 0.0))
    with pytest.raises(
        ValueError, match=r"x\.seconds\.json is damaged .*; delete it, and the minutes of earlier calls"
    ):
        flagship("x", TINY, PICTURES, tmp_path, "cpu", time.monotonic() + 60)


def test_where_the_compiler_fails_it_is_trained_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def measure(*given: Any) -> Schedule | None:
        asked.append(given[-1])
        if given[-1] is not None:
            raise RuntimeError("no working C++ compiler")
        return None

    monkeypatch.setattr(module, "measure", measure)
    assert flagship("x", TINY, PICTURES, tmp_path, "cpu", time.monotonic() + 60, compiler="inductor") is None
    assert asked == ["inductor", LOSS_ALONE, None]  # the preparation of pictures alone may be what fails
    asked.clear()
    assert flagship("y", TINY, PICTURES, tmp_path, "cpu", time.monotonic() + 60, compiler=None) is None
    assert asked == [None]


@pytest.mark.integration
def test_a_training_asked_for_whole_is_not_shortened_and_goes_on_in_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    e, options = replace(TINY, steps=60), {"episodes": 8, "count": 25}
    assert flagship("short", e, PICTURES, tmp_path, "cpu", time.monotonic(), **options) is None
    assert "short: needs more time than this call has left" in capsys.readouterr().out
    assert flagship("whole", e, PICTURES, tmp_path, "cpu", time.monotonic(), **options, whole=True) is None
    said = capsys.readouterr().out
    assert "whole: 60 of 60 steps at" in said
    assert "whole: stopped in time, after step 1 of 60, which is saved" in said
    (tmp_path / "half.schedule.json").write_text(json.dumps(asdict(Schedule(30, 60, 0.01, 0.0, 0.0))))
    with pytest.raises(
        ValueError, match=r"half\.schedule\.json is of 30 of 60 steps, and all are asked for: delete it"
    ):
        flagship("half", e, PICTURES, tmp_path, "cpu", time.monotonic() + 600, **options, whole=True)
    # The schedule is fixed: asked for whole only once.
    result = flagship("whole", e, PICTURES, tmp_path, "cpu", time.monotonic() + 600, **options)
    assert result is not None
    assert result["curve"][-1]["step"] == 60


def test_the_compiler_and_the_whole_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    for limit in ("CHECK_SECONDS", "SPEED_SECONDS"):
        monkeypatch.setattr(run, limit, -1.0)
    monkeypatch.setattr(run, "flagship", lambda *_, **how: asked.append((how["compiler"], how["whole"])))
    call = ["gpu", "--device", "cpu", "--tiny", "--out", str(tmp_path), "--works", "mini-1shot"]
    assert main(call) == 0
    (tmp_path / "speed.json").write_text('{"compilers": {"fastest": null}}')
    assert main(call) == 0
    assert main([*call, "--compiler", GRAPHS, "--whole"]) == 0
    assert asked == [("auto", False), (None, False), (GRAPHS, True)]


def test_trainings_that_are_not_there_and_too_few_seconds_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for names, kind, said in (
        (["mini-1shto"], ValueError, "no training mini-1shto; there are mini-1shot, "),
        ("mini-1shot", TypeError, "names must be"),
        ([], ValueError, "names"),
    ):
        with pytest.raises(kind, match=said):
            run.run(None, tmp_path / "new", 600.0, "cpu", small=True, names=names)
    assert not (tmp_path / "new").exists()
    for limit in ("CHECK_SECONDS", "SPEED_SECONDS"):
        monkeypatch.setattr(run, limit, -1.0)
    monkeypatch.setattr(run, "_pictures", lambda *_: PICTURES)
    assert run.run(tmp_path, tmp_path / "new", 100.0, "cpu", names=["mini-1shot"]) == {}
    assert re.search(r"mini-1shot: not gone on with, \d+ s are left and 180 are needed", capsys.readouterr().out)


def test_a_compiler_that_is_not_there_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["gpu", "--device", "cpu", "--tiny", "--out", str(tmp_path / "new"), "--compiler", "gcc"]
    assert main(call) == 1
    assert "compiler must be 'auto', None, 'reduce-overhead', 'inductor-loss' or one of" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_weights_of_an_earlier_phase_are_no_result() -> None:
    e = tiny("mini-1shot-feat", works()["mini-1shot-feat"])
    first = e.plan[0].steps
    for step, said in ((first, False), (first + 1, True)):
        assert module.is_of_last_phase(step, e) is said
    assert module.is_of_last_phase(1, TINY)


def test_a_training_that_diverges_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*_: Any, **__: Any) -> None:
        raise FloatingPointError("the loss of nan is not finite at step 7")

    monkeypatch.setattr(module, "measure", lambda *_: Schedule(60, 60, 0.01, 0.0, 0.0))
    monkeypatch.setattr(module, "train", diverges)
    flagship("x", TINY, PICTURES, tmp_path, "cpu", time.monotonic() + 60)
    assert read(tmp_path / "x.json")["diverged"] == "the loss of nan is not finite at step 7"


def test_the_schedule_fills_the_time_that_is_left() -> None:
    assert fitting(28_500, 0.01, 2.0, 5.0, 1000.0) == Schedule(28_500, 28_500, 0.01, 2.0, 5.0)
    short = fitting(28_500, 0.01, 2.0, 5.0, 200.0)
    assert short is not None
    free = 200 - 5 - 2 * VALIDATIONS
    assert 0.8 * free < 0.01 * short.steps < 0.9 * free
    assert short.seconds < 200
    assert fitting(28_500, 0.01, 2.0, 5.0, 22.0) is None
    full = works()["mini-1shot"]
    e = short.applied_to(full)
    phase = e.plan[0]
    assert phase.steps == e.steps == short.steps
    assert phase.warmup / e.steps == pytest.approx(full.warmup / full.steps, abs=1e-3)
    assert phase.save_every == 6000  # a minute
    feat = works()["mini-1shot-feat"]
    half = Schedule(feat.steps // 2, feat.steps, 0.01, 2.0, 5.0).applied_to(feat)
    assert [p.steps for p in half.phases] == [round(p.steps / 2) for p in feat.phases]
    assert {p.save_every for p in half.phases} == {6000}
    assert phase.steps / phase.validate_every == pytest.approx(VALIDATIONS, rel=0.01)


def test_every_system_is_trained_and_dmf_with_the_released_choices() -> None:
    found = works()
    assert list(found)[:4] == ["mini-1shot", "mini-5shot", "mini-1shot-no-alignment", "mini-1shot-can"]
    first = found["mini-1shot"]
    assert (first.preset, first.choices) == ("released", {"alignment": "rk4", "score_scale": 1.0})
    assert (first.steps, first.batch, first.learning_rate) == (28_500, 4, 0.35)
    assert found["mini-5shot"].groups == 160
    assert found["mini-1shot-groups-640"].groups == 640
    assert {e.method for e in found.values()} == METHODS.keys() - {"classifier", "simpleshot"}
    settings = [replace(e, name="x") for e in found.values()]
    assert all(a != b for i, a in enumerate(settings) for b in settings[:i])


def test_weights_in_halves_come_back(tmp_path: Path) -> None:
    model = small_model("dmf")
    save_model(model, tmp_path / "x.safetensors")
    files = parts.save_parts(load_model(tmp_path / "x.safetensors"), tmp_path / "x.safetensors", tmp_path, "x")
    sizes = [file.stat().st_size for file in files]
    assert max(sizes) < 1.2 * min(sizes)
    back = parts.load_parts(tmp_path, "x")
    for name, value in model.state_dict().items():
        kept = value.half().to(value.dtype) if value.is_floating_point() else value
        torch.testing.assert_close(back.state_dict()[name], kept)
    assert back.preprocessing == model.preprocessing
    files[1].write_bytes(files[1].read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ValueError, match=r"files of x in .* are damaged"):
        parts.load_parts(tmp_path, "x")


def test_the_paper_s_network_fits_two_files_of_16_mb() -> None:
    for name, files in (("mini-1shot", 2), ("mini-5shot", 2), ("mini-1shot-can", 2), ("mini-1shot-groups-640", 3)):
        with torch.device("meta"):
            model = build_model(works()[name], 64, 0)
        assert parts.how_many(sum(2 * value.numel() for value in model.state_dict().values())) == files


def test_a_network_too_large_for_two_files_gets_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_BYTES", 34_000)
    model = small_model("can")
    save_model(model, tmp_path / "x.safetensors")
    files = parts.save_parts(model, tmp_path / "x.safetensors", tmp_path, "x")
    assert len(files) > 2
    assert all(file.stat().st_size <= 34_000 for file in files)
    assert parts.load_parts(tmp_path, "x").recipe() == model.recipe()
    files[-1].unlink()
    with pytest.raises(ValueError, match=r"files of x in .* are damaged, incomplete"):
        parts.load_parts(tmp_path, "x")
