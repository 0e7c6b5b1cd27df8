"""Saved figures say how they were made."""

import json
from pathlib import Path

import matplotlib.pyplot as plt

from labkit import plotting


def test_a_saved_figure_says_how_it_was_made(tmp_path: Path) -> None:
    figure, _ = plt.subplots()
    plotting.save(figure, tmp_path, "name", seed=3)
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"name.png", "name.svg", "name.json"}
    about = json.loads((tmp_path / "figures" / "name.json").read_text())
    assert about["how"] == {"seed": 3}
    assert "torch" in about["versions"]


def test_the_room_offers_what_it_lists_and_no_library_beside() -> None:
    rooms_own = {f.stem for f in Path(plotting.__file__).parent.glob("*.py")}
    assert {name for name in dir(plotting) if not name.startswith("_")} - rooms_own == set(plotting.__all__) - rooms_own
