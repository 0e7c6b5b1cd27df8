"""One look for all pictures: colours that the colour-blind can tell apart, and how figures are saved."""

import io
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure

from labkit.common import checks
from labkit.common.errors import printable
from labkit.common.files import make_folder, write_atomically
from labkit.common.versions import versions

# Okabe and Ito's palette, in the order that lines take it.
BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
)
HEAT = "cividis"


SMALL = 9  # points: the smallest letters of any figure, at 100 pixels an inch as notebooks show it
MOST_INCHES = 60  # of a figure's height: pictures become smaller instead
MOST_ROWS = 300  # of pictures, by name, in one figure


def text(name: str) -> str:
    """A name, drawn as it is: matplotlib reads what stands between two ``$`` as mathematics, and no broken UTF-8."""
    return printable(str(name)).replace("$", r"\$")


def use_style() -> None:
    """Set the lab's look for all figures that follow."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY, RED]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "image.interpolation": "nearest",
            "legend.frameon": False,
            "font.size": SMALL,
        }
    )


def save(figure: Figure, runs: str | Path, name: str, **how: Any) -> None:
    """Write a figure to ``RUNS/figures`` as PNG and SVG, with a JSON of how it was made; it stays open."""
    save_in(figure, checks.path("runs", runs, "the path of a folder") / "figures", name, **how)


def save_in(figure: Figure, folder: Path, name: str, **how: Any) -> None:
    """`save`, in the folder itself."""
    make_folder(folder)
    for kind in ("png", "svg"):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, bbox_inches="tight", dpi=160 if kind == "png" else "figure")
        write_atomically(folder / f"{name}.{kind}", drawn.getvalue())
    text = json.dumps({"how": checks.plain(how), "versions": versions()}, indent=1)
    write_atomically(folder / f"{name}.json", text.encode())
