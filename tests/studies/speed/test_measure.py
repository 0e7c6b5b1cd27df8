"""The measurements, at sizes of a toy: complete, resumable, and never a judgement on the time they took."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from labkit.studies.speed import measure
from labkit.studies.speed.head import slopes
from labkit.studies.speed.setting import Setting
from labkit.sweeps.sweep import Sweep, key_of
from tests.helpers.toys import toy_images

pytestmark = pytest.mark.integration

TOY = Setting(
    way=3, query=2, groups=4, width=0.1, size=24, episodes=4, literal_episodes=1, runs=2, per_class=20, growth=100
)


@pytest.mark.integration
def test_every_part_is_measured_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Setting, "images", lambda self, split: toy_images(5, 20, size=24, split=split))
    parts = [p for p in measure.PARTS if p not in ("agreement", "largest")]
    content = {p: measure.run_part({"part": p, "setting": asdict(TOY)}, tmp_path) for p in parts}
    assert json.loads(json.dumps(content)) == content
    assert set(content["head"]["ratio"]) == {"fast", "fast, closed form"}
    assert content["memory"]["bytes"].keys() == {"literal", "fast"}
    assert [*content["sampling"]][:2] == ["forward", "forward and backward"]
    assert content["sampling"]["forward"]["ratio"].keys() == {"embedding_bag"}
    assert set(content["step"]["parts"]["fast"]) == {"episodes", "backbone", "head", "backward", "optimiser"}
    assert content["test"]["ratio"].keys() == {"fast", "fast, bfloat16"}
    assert set(content["growth"]["slopes"]) == {"queries", "ways", "groups", "cells"}
    assert all("torch" in part["made"]["versions"] for part in content.values())


def test_what_is_measured_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    file.write_text('{"step": "measured before"}')
    content = measure.run(file, ["head"], TOY, threads=1)
    assert list(content) == ["step", "head"]
    assert measure.run(file, ["head"], TOY, threads=1) == content  # the same times: not measured again
    assert json.loads(file.read_text()) == content


def test_another_number_of_threads_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    made = {"threads": 1}

    def sweep(_: Any, runs: list[dict[str, Any]], **how: Any) -> Sweep:
        asked.extend(runs)
        result = {"made": {"threads": how["cpus"]} if "threads" in runs[0] else made}
        return Sweep([{"key": "0a", "parameters": run, "result": result} for run in runs], [], [])

    monkeypatch.setattr(measure, "sweep", sweep)
    file = tmp_path / "speed.json"
    assert measure.run(file, ["head"], TOY, threads=1)["head"]["made"]["threads"] == 1
    with pytest.raises(ValueError, match=r"0a\.json was measured with 1 threads, not 2: delete it to measure anew"):
        measure.run(file, ["head"], TOY)
    made["threads"] = 2
    assert measure.run(file, ["head"], TOY)["head"]["made"]["threads"] == 2
    keys = [key_of(parameters, measure.VERSION) for parameters in asked]
    assert keys[0] != keys[2] == key_of({"part": "head", "setting": asdict(TOY)}, measure.VERSION)  # as kept before


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "sweep", lambda *_, **__: pytest.fail("it measures"))
    with pytest.raises(ValueError, match=r"speed must be the name of a file that ends in \.json"):
        measure.run(tmp_path / "speed", ["head"], TOY)


def test_slopes_of_powers() -> None:
    points = [
        {"axis": "queries", "form": form, "value": v, "seconds": 0.1 * v**power}
        for form, power in (("literal", 1.0), ("fast", 0.5))
        for v in (15, 30, 75, 150)
    ]
    assert slopes(points) == {"queries": {"literal": 1.0, "fast": 0.5}}
