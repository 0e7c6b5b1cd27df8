"""The pictures of notebook 12: support sets, classified pictures, reliability."""

import io
import textwrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from labkit import plotting
from labkit.common import checks
from labkit.own_images.classify import NONE, Classified, SupportSet
from labkit.own_images.open_episodes import calibration_error

MOST_BARS = 12  # classes beside a picture
MOST_SHOTS = 8  # pictures of a class that are shown
STILL = "A still picture of the answers. To drop pictures of your own, run the cells of this notebook in JupyterLab."
LONGEST, BELOW = 22, 18  # letters of a name that are shown; of a line below a picture


def show_support(support: SupportSet, width: float = 6) -> Figure:
    """The classes' pictures as the network sees them, a row a class; of more than `MOST_SHOTS` the first."""
    checks.kind("support", support, SupportSet, "a labkit.SupportSet, as labkit.enrol gives")
    rows, names = [], []
    for pictures, n, name in zip(support.pictures, support.shots, support.names, strict=True):
        rows.append(list(pictures[: min(n, MOST_SHOTS)]))
        names.append(_short(name) + (f"\nand {n - MOST_SHOTS} more" if n > MOST_SHOTS else ""))
    return plotting.image_grid(rows, names, width)


def show_classified(found: Classified, columns: int = 2) -> Figure:
    """Every picture with its probabilities as bars, the answer's blue; in the title the answer and its likeness.

    Of more than `MOST_BARS` classes the most probable are shown, and of more pictures than fit the first.
    """
    checks.kind("found", found, Classified, "a labkit.Classified, as labkit.classify gives")
    bars = min(len(found.support.names), MOST_BARS)
    high = max(1.1, 0.22 * bars + 0.65)
    shown = min(len(found.files), columns * int(plotting.MOST_INCHES / high))
    rows = -(-shown // columns)
    figure = plt.figure(figsize=(4.5 * columns, high * rows), layout="constrained")  # in whatever style
    axes = figure.subplots(rows, 2 * columns, width_ratios=[1, 1.6] * columns, squeeze=False)
    if shown < len(found.files):
        figure.supxlabel(f"and {len(found.files) - shown} more", fontsize=9)
    for ax in axes.ravel()[2 * shown :]:
        ax.axis("off")
    for (left, right), k in zip(axes.reshape(-1, 2), range(shown), strict=False):
        plotting.show_image(left, found.pictures[k])
        file = textwrap.wrap(_short(found.files[k], 2 * BELOW), BELOW)
        left.set_xlabel(plotting.text("\n".join(file)), fontsize=9)
        best = np.sort(found.probabilities[k].argsort(kind="stable")[::-1][:bars])
        refused, highest = found.answers[k] == NONE, found.probabilities[k].max()
        shades = ["0.7" if refused or p < highest else plotting.BLUE for p in found.probabilities[k][best]]
        names = [plotting.text(_short(found.support.names[b])) for b in best]
        right.barh(range(len(best)), found.probabilities[k][best], color=shades)  # two names may be shortened alike
        right.set_yticks(range(len(best)), names)
        right.set(xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
        right.tick_params(labelsize=9)
        right.invert_yaxis()
        nearest = f"\nnearest: {_short(found.best[k])}" if refused else ""
        title = plotting.text(f"{_short(found.answers[k])} (likeness {found.likeness[k]:.2f}){nearest}")
        right.set_title(title, fontsize=9, loc="left")
        if k >= shown - columns:  # the last of its column
            right.set_xlabel("probability", fontsize=9)
    return figure


def _short(name: str, longest: int = LONGEST) -> str:
    """A name with its middle left out, where it is longer: the number of a picture is at its end."""
    return name if len(name) <= longest else f"{name[: longest - 9]}…{name[-8:]}"


def answers_picture(found: Classified) -> bytes:
    """`show_classified` as a PNG that says that it is still."""
    figure = show_classified(found)
    figure.suptitle(STILL, fontsize=10, x=0.01, ha="left")
    content = io.BytesIO()
    figure.savefig(content, format="png", bbox_inches="tight")
    plt.close(figure)
    return content.getvalue()


def reliability_diagram(bins: dict[str, Any]) -> Figure:
    """Probability of the answer against share of right ones, from ``novel_reliability`` of the results.

    Bins with fewer than 2 queries in 1000 count in the error but are not drawn: they show chance.
    """
    names = sorted({key.rsplit(", ", 1)[0] for key in bins})
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 4.2), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        ax.plot([0, 1], [0, 1], color=plotting.BLACK, linewidth=0.8, linestyle=":")
        for when, colour, marker in (("before", plotting.ORANGE, "s"), ("after", plotting.BLUE, "o")):
            found = np.array(bins[f"{name}, {when}"])
            label = f"{when} calibration: error {100 * calibration_error(found.tolist()):.1f} points"
            found = found[found[:, 0] >= 0.002]
            ax.plot(found[:, 1], found[:, 2], color=colour, linewidth=1)
            ax.scatter(
                found[:, 1], found[:, 2], s=8 + 250 * found[:, 0], color=colour, marker=marker, alpha=0.7, label=label
            )
        ax.set(
            title=plotting.text(name),
            xlabel="probability of the answer\n(dotted: as it should be; larger: more queries)",
            xlim=(0, 1.04),  # the largest discs lie at 1
            ylim=(0, 1.04),
        )
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))  # on no curve
    axes[0, 0].set_ylabel("share of right answers")
    return figure
