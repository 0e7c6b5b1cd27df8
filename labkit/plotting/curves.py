"""Numbers: learning curves, accuracies with their intervals, histograms over episodes."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from labkit.evaluation.intervals import over_episodes, shown
from labkit.evaluation.protocol import Result
from labkit.plotting.style import BLACK, BLUE, GREEN, ORANGE, RED, SKY, SMALL, text

BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}  # a legend that lies on no curve


def learning_curves(
    metrics: Sequence[Mapping[str, Any]], chance: float, auxiliary: str = "global classification, Eq. 11"
) -> Figure:
    """Losses, training and validation accuracy, and learning rate against steps, from ``metrics.jsonl``.

    `auxiliary` names the second loss (`Method.auxiliary_name`); without a name it is not drawn.
    """
    training = [m for m in metrics if "loss" in m]
    validation = [m for m in metrics if "validation" in m]
    steps = [m["step"] for m in training]
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.4))
    axes[0].plot(steps, [m["few_shot"] for m in training], label="few-shot")
    if auxiliary:
        axes[0].plot(steps, [m["auxiliary"] for m in training], label=text(auxiliary))
    axes[0].set(title="Loss", xlabel="step")
    axes[0].legend(**BELOW)
    axes[1].plot(steps, [m["accuracy"] for m in training], color=SKY, label="base classes, augmented")
    axes[1].errorbar(
        [m["step"] for m in validation],
        [m["validation"] for m in validation],
        [m["ci95"] for m in validation],
        color=RED,
        marker="o",
        markersize=3,
        capsize=2,
        label="validation, 95 % interval",
    )
    axes[1].axhline(chance, color=BLACK, linewidth=0.8, linestyle=":")
    axes[1].set(title="Accuracy of an episode (dotted: chance), %", xlabel="step", ylim=(0, 100))
    axes[1].legend(**BELOW)
    axes[2].plot(steps, [m["rate"] for m in training], color=GREEN)
    axes[2].set(title="Learning rate", xlabel="step")
    return figure


def accuracy_bars(accuracies: Mapping[str, tuple[float, float]], chance: float) -> Figure:
    """Accuracies with the half widths of their 95 % intervals, and chance as a dotted line."""
    figure, ax = plt.subplots(figsize=(6, 0.55 * len(accuracies) + 0.9))
    names = list(accuracies)
    values = [accuracies[n][0] for n in names]
    ax.barh(
        [text(name) for name in names],
        values,
        xerr=[accuracies[n][1] for n in names],
        color=BLUE,
        height=0.6,
        capsize=3,
    )
    for row, name in enumerate(names):
        ax.text(1, row, f"{accuracies[name][0]:.1f} ± {accuracies[name][1]:.1f}", va="center", color="white")
    ax.axvline(chance, color=BLACK, linestyle=":", linewidth=1)
    ax.set(xlabel="accuracy on novel classes, % (dotted: chance)", xlim=(0, 100))
    ax.invert_yaxis()
    return figure


def episode_histograms(results: Mapping[str, Result], method: str, reference: str) -> Figure:
    """Accuracy of `method` episode by episode, and its lead over `reference` on those same episodes, in points."""
    own = results[method].per_episode
    lead = own - results[reference].per_episode
    mean, half = over_episodes(lead)
    one = 100 / (results[method].settings["way"] * results[method].settings["query"])  # a query's share, in points
    # Accuracies are multiples of it, so each bin holds as many of them, and edges lie between them.
    wide, reach = one * max(1, round(4 / one)), one * round(max(30, abs(lead).max()) / one)
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.4), sharey=True)
    axes[0].hist(own, bins=np.arange(-one / 2, 100 + wide, wide), color=BLUE)
    axes[0].set(xlabel=f"accuracy of {text(method)} in an episode, %", ylabel="episodes")
    axes[1].hist(lead, bins=np.arange(-reach - one / 2, reach + one, one), color=GREEN)
    difference = f"{text(method)} minus {text(reference)}"
    axes[1].set(xlabel=f"{difference}, points (mean {shown(mean, half, 2)})".replace(" -", " \N{MINUS SIGN}"))
    return figure


def data_sheet_lines(sheet: pd.DataFrame, chance: float) -> Figure:
    """A data sheet: accuracy against displacement, a panel a method, a line for each thing seen."""
    methods = sheet["method"].unique()
    figure, axes = plt.subplots(1, len(methods), figsize=(9.5, 3.2), sharey=True, squeeze=False)
    seen = list(sheet["sees"].unique())
    clutter = iter(plt.get_cmap("Blues")(np.linspace(0.95, 0.45, len(seen))))
    colours = {sees: ORANGE if sees == "object alone" else next(clutter) for sees in seen}
    for ax, method in zip(axes[0], methods, strict=True):
        for k, sees in enumerate(seen):
            part = sheet[(sheet["method"] == method) & (sheet["sees"] == sees)]
            apart = 0.012 * (k - (len(seen) - 1) / 2)  # lest intervals hide one another
            ax.errorbar(
                part["displacement"] + apart,
                part["accuracy"],
                part["ci95"],
                color=colours[sees],
                marker="s" if sees == "object alone" else "o",
                markersize=4,
                capsize=2,
                label=text(sees),
            )
        ax.axhline(chance, color=BLACK, linewidth=0.8, linestyle=":")
        ax.text(sheet["displacement"].max(), chance - 2.5, "chance", ha="right", va="top", fontsize=SMALL)
        ax.set(title=text(method)[0].upper() + text(method)[1:], xlabel="displacement of the object")
        ax.set_xticks(sorted(sheet["displacement"].unique()))
    axes[0, 0].set(ylabel="accuracy, % (bars: 95 % interval)", ylim=(0, max(60, 1.12 * sheet["accuracy"].max())))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper")
    return figure
