"""Saved figures say how they were made."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from labkit import plotting


def test_a_saved_figure_says_how_it_was_made(tmp_path: Path) -> None:
    figure, _ = plt.subplots()
    plotting.save(figure, tmp_path, "name", seed=3)
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"name.png", "name.svg", "name.json"}
    about = json.loads((tmp_path / "figures" / "name.json").read_text())
    assert about["how"] == {"seed": 3}
    assert "torch" in about["versions"]


def test_a_figure_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure, _ = plt.subplots()
    plotting.save(figure, tmp_path, "name", seed=3)
    before = (tmp_path / "figures" / "name.png").read_bytes()

    def half(self: Figure, out: Any, **_: Any) -> None:
        out.write(b"half") if hasattr(out, "write") else Path(out).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="the disk is full"):
        plotting.save(figure, tmp_path, "name", seed=4)
    assert (tmp_path / "figures" / "name.png").read_bytes() == before


def test_the_room_offers_what_it_lists_and_no_library_beside() -> None:
    rooms_own = {f.stem for f in Path(plotting.__file__).parent.glob("*.py")}
    assert {name for name in dir(plotting) if not name.startswith("_")} - rooms_own == set(plotting.__all__) - rooms_own
