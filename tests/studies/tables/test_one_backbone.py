"""Tables on one backbone: a run is a record, what is finished stays, and validation alone chooses."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labkit.__main__ import main
from labkit.commands import table
from labkit.evaluation.feature_set import embed_all
from labkit.studies.tables import one_backbone
from labkit.studies.tables.head_runs import Maps, maps_of
from labkit.studies.tables.heads import HEADS, SYSTEMS, TABLE1_HEADS
from labkit.studies.tables.runs import Run
from tests.helpers.pretended_sweep import PretendedSweep
from tests.helpers.toy_maps import backbone, toy_maps
from tests.helpers.toys import toy_images

MAPS = toy_maps()


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    table.arguments(parser)
    return parser.parse_args(words[1:])


WHERE = {"dataset": "toy", "backbone": MAPS.base.backbone, "shot": 1, "seed": 0}


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(one_backbone, "maps_of", lambda *_, **__: MAPS)
    monkeypatch.setattr(one_backbone, "RESULTS", tmp_path / "lab.jsonl")
    monkeypatch.setattr(one_backbone, "MORE_CLASSES", tmp_path / "more.jsonl")


@pytest.mark.integration
def test_a_run_is_a_record_and_the_same_when_resumed(tmp_path: Path) -> None:
    run = WHERE | {"name": "dynamic_sampling off"}
    row = one_backbone.run_head(run, tmp_path, steps=8, episodes=6)
    assert json.loads(json.dumps(row)) == row
    record = Run.from_json(row)
    assert (record.system, record.steps, record.protocol) == ("dynamic_sampling", 8, "on one backbone")
    assert record.per_episode.mean() == pytest.approx(record.accuracy, abs=1e-3)
    assert len(record.per_episode) == 6
    assert {"accuracy", "ci95", "class_interval"} <= record.novel.keys()
    assert '--systems "dynamic_sampling off"' in record.command
    again = Run.from_json(one_backbone.run_head(run, tmp_path, steps=8, episodes=6))
    assert again == replace(record, seconds=None)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["No alignment: class_weight normalised", "ProtoNet: read map", "last_pooling on"])
def test_what_has_nothing_to_train_is_measured_and_pooled_maps_are_read(name: str, tmp_path: Path) -> None:
    name = next((h.name for h in TABLE1_HEADS if h.name.startswith(name.partition(":")[0])), name)
    row = one_backbone.run_head(WHERE | {"name": name}, tmp_path, steps=4, episodes=4)
    assert row["steps"] == (4 if name == "last_pooling on" else 0)
    assert row["backbone"] == MAPS.base.backbone
    assert row["novel"]["episodes"] == 4


@pytest.mark.parametrize(
    ("more", "sentence"), [((), "give --backbone"), (("--backbone", "b", "--cells", "dmf"), "use --systems here")]
)
def test_options_of_the_other_protocol_are_refused(more: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    given = parsed("table", "1", str(tmp_path), "--protocol", "one-backbone", *more)
    with pytest.raises(ValueError, match=sentence):
        table.main(given)


def test_a_backbone_that_is_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="and another was asked for"):
        one_backbone.run_head(WHERE | {"name": "dmf", "backbone": "another"}, tmp_path)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("DMF: as released", ("1", "DMF")),
        ("align 1", ("2", "align 1")),
        ("align 1, as released", ("2 --released", "align 1")),
    ],
)
def test_a_recorded_command_names_the_row(name: str, row: tuple[str, str]) -> None:
    assert one_backbone.row_of(HEADS[name]) == row


def test_a_loss_that_is_not_finite_is_a_result_without_numbers(tmp_path: Path) -> None:
    broken = Run("toy", "DMF", "dmf", 1, 0, "b", diverged="at step 3")
    assert Run.from_json(json.loads(json.dumps(broken.to_json()))).diverged == "at step 3"
    assert broken.to_json()["validation"] is None


def test_both_settings_are_tried_and_what_validation_chooses_gets_all_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_up(p: dict[str, Any]) -> dict[str, Any]:
        second = p["name"] == [h.name for h in TABLE1_HEADS if h.name.partition(":")[0] in p["name"]][-1]
        novel = {"accuracy": 40.0 - second, "way": 5}  # worse where validation is better
        return Run(system=p["name"].partition(":")[0], validation=50.0 + second, novel=novel, **p).to_json()

    monkeypatch.setattr(one_backbone, "sweep", sweep := PretendedSweep(made_up))
    folder = tmp_path / "sweep"
    common = ["table", "1", str(folder), "--protocol", "one-backbone"]
    assert main([*common, "--shots", "1", "--backbone", "b", "--dataset", "toy", "--seeds", "0", "1"]) == 0
    assert len(sweep.asked) == len(TABLE1_HEADS) + len(SYSTEMS)
    runs = one_backbone.results(folder, dataset="toy")
    assert set(one_backbone.by_system(runs, 1)) == set(SYSTEMS)
    chosen = one_backbone.by_system(runs, 1)["FEAT"]
    assert [(r.seed, r.accuracy) for r in chosen] == [(0, 39.0), (1, 39.0)]
    assert main([*common, "--gather"]) == 0
    assert one_backbone.results() == runs
    assert main(["table", "1", str(tmp_path / "typo"), *common[3:], "--gather"]) == 1
    assert one_backbone.results() == runs
    with pytest.raises(ValueError, match="of one dataset and one backbone"):
        one_backbone.by_system([*runs, replace(runs[0], backbone="other")], 1)
    with pytest.raises(ValueError, match="there is no nothing"):
        one_backbone.fill(folder, 2, "b", systems=["nothing"], progress=False)


def test_table_2_is_trained_as_released_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def made_up(p: dict[str, Any]) -> dict[str, Any]:
        if p["seed"] == 3:
            raise OSError("no room")
        return Run(system="DMF", **p).to_json()

    monkeypatch.setattr(one_backbone, "sweep", sweep := PretendedSweep(made_up))
    common = [str(tmp_path), "--protocol", "one-backbone", "--backbone", "b", "--dataset", "toy", "--shots", "1"]
    assert main(["table", "2", *common, "--seeds", "2", "--released", "--systems", "dmf", "align 1"]) == 0
    assert [(p["name"], p["seed"]) for p in sweep.asked] == [("DMF: as released", 2), ("align 1, as released", 2)]
    assert main(["table", "2", *common, "--seeds", "3", "--systems", "dmf"]) == 1  # a run failed
    assert "1 run failed, and what is finished is kept; the first is" in capsys.readouterr().err
    with pytest.raises(ValueError, match="released is of Table 2"):
        one_backbone.fill(tmp_path, 1, "b", released=True, progress=False)


def test_what_is_chosen_is_tested_on_more_classes_and_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def maps(*_: object, **options: Any) -> Maps:
        asked.append(options["novel"])
        return MAPS

    def made_up(p: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in p.items() if name != "novel"}
        known: dict[str, Any] = {"tested_on": p.get("novel"), "system": p["name"].partition(":")[0]}
        if p["seed"] == 2:
            return Run(**known, **given, diverged="at step 3").to_json()
        novel = {"accuracy": 30.0, "ci95": 0.5, "way": 5, "dataset": p.get("novel", p["dataset"])}
        right = 50.0 + ("16.0" in p["name"])
        return Run(**known, **given, validation=right, novel=novel).to_json()

    monkeypatch.setattr(one_backbone, "maps_of", maps)
    monkeypatch.setattr(one_backbone, "sweep", sweep := PretendedSweep(made_up))
    folder = tmp_path / "sweep"
    common = ["table", "1", str(folder), "--protocol", "one-backbone", "--shots", "1", "--systems", "FEAT"]
    common += ["--backbone", "b", "--dataset", "miniimagenet", "--data-root", "/x"]
    more = ["--novel", "tinyimagenet", "--novel-root", "/y"]
    assert main([*common, *more]) == 1
    assert "validation has chosen no setting of FEAT on this backbone yet" in capsys.readouterr().err
    assert main([*common, "--seeds", "0", "1"]) == 0
    assert main([*common, *more, "--seeds", "0", "1", "2"]) == 0
    chosen = "FEAT: temperature 16.0"
    assert [(p["name"], p["seed"], p.get("novel")) for p in sweep.asked[-3:]] == [
        (chosen, seed, "tinyimagenet") for seed in (0, 1, 2)
    ]
    assert asked[-1] == ("tinyimagenet", Path("/y"))
    # The run that diverged there too is none of the data set's own.
    assert {run.novel["dataset"] for run in one_backbone.results(folder)} == {"miniimagenet"}
    assert one_backbone.chosen(one_backbone.results(folder), "FEAT", 1) == chosen
    tested = one_backbone.results(folder, novel="tinyimagenet")
    assert [(run.name, run.seed) for run in tested] == [(chosen, 0), (chosen, 1), (chosen, 2)]
    assert tested[2].diverged
    with pytest.raises(ValueError, match=r"only the classes of tinyimagenet are known to be new .* got those of tiny"):
        one_backbone.results(folder, novel="tiny")
    gathered = ["table", "1", str(folder), "--protocol", "one-backbone", "--gather"]
    assert main([*gathered, *more[:2]]) == 0
    assert [r.to_json() for r in one_backbone.results(novel="tinyimagenet")] == [r.to_json() for r in tested]
    assert not one_backbone.results()
    capsys.readouterr()
    assert main([*common[:-4], "--dataset", "toy", *more]) == 1
    assert "only the classes of tinyimagenet are known to be new to miniimagenet" in capsys.readouterr().err
    assert main([*common, *more[2:]]) == 1
    assert "novel_root is where the pictures of novel='tinyimagenet' lie: give that too" in capsys.readouterr().err
    assert main(["table", "1", str(folder), *more[2:]]) == 1
    assert "--novel-root belong to --protocol one-backbone" in capsys.readouterr().err


@pytest.mark.integration
def test_a_run_looks_at_the_novel_classes_that_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = toy_images(seed=7, split="test")
    about = replace(other.provenance, dataset="other", resampling="bilinear")  # as files of another size have it
    other = replace(other, provenance=about)
    with pytest.raises(ValueError, match="resampling 'bilinear'"):
        embed_all(backbone(), other, cache=False, progress=False)
    asked: list[Any] = []

    def maps(*_: object, novel: Any, **__: object) -> Maps:
        asked.append(novel)
        return Maps(MAPS.base, MAPS.validation, embed_all(backbone(), other, cache=False, strict=False))

    monkeypatch.setattr(one_backbone, "maps_of", maps)
    run = WHERE | {"name": "No alignment: class_weight normalised", "novel": "tinyimagenet"}
    row = one_backbone.run_head(run, tmp_path, data_root="/x", novel_root="/y", episodes=4)
    assert asked == [("tinyimagenet", "/y")]
    assert row["command"].endswith(" --novel tinyimagenet --novel-root ROOT")
    assert "novel" not in Run.from_json(row).options
    assert row["novel"]["digest"] != MAPS.novel.digest
    assert row["tested_on"] == "tinyimagenet"


def test_maps_of_a_shipped_backbone_are_read_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from labkit.data import load_images
    from labkit.studies.tables import head_runs

    sizes = {"per_class": 20, "size": 40}
    monkeypatch.setattr(head_runs, "load_images", lambda name, split, **_: load_images(name, split, **sizes))
    maps = maps_of("quick-none", "glyphs-mini")
    assert isinstance(maps, Maps)
    assert [m.provenance.split for m in maps] == ["train", "val", "test"]
    assert maps.base.pixels.shape[1:] == (5, 5, 160)
    assert maps_of("quick-none", "glyphs-mini").novel.provenance == maps.novel.provenance
