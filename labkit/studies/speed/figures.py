"""The pictures and the table of notebook 10, from what `labkit.studies.speed.measure` measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from labkit.plotting import BLACK, BLUE, ORANGE, RED, SKY


def speed_table(measured: Mapping[str, Any]) -> pd.DataFrame:
    """The ratios of the measured files ``"cpu"`` and ``"gpu"``: how many times as fast as the literal form."""

    def column(content: Mapping[str, Any]) -> dict[str, str]:
        ratio = {name: content[name]["ratio"] for name in ("head", "step", "test")}
        half = {
            name: f"{ratio[name]['fast, bfloat16']:.1f} x ({ratio[name]['fast']:.1f} x)" for name in ("step", "test")
        }
        return {
            "head forward, closed form (RK4)": "{fast, closed form:.0f} x ({fast:.0f} x)".format_map(ratio["head"]),
            "head peak memory": f"{content['memory']['share']:.2f} of the literal form's",
            "training step, 4 episodes, bfloat16 (float32)": half["step"],
            "the paper's 2000 test episodes, bfloat16 (float32)": half["test"],
            "episodes and augmentation": f"{100 * content['step']['episodes_share']:.1f} % of a step",
        }

    titles = {"cpu": "CPU", "gpu": "GPU"}
    columns = {title: column(measured[name]) for name, title in titles.items() if name in measured}
    if "gpu" not in measured:
        columns["GPU"] = dict.fromkeys(columns["CPU"], "not measured")
    return pd.DataFrame(columns)


def step_bars(parts: Mapping[str, Mapping[str, float]]) -> Figure:
    """Seconds of a training step as stacked bars, one for each form; `parts` as `measure.step` gives them."""
    colours = dict(
        zip(("episodes", "backbone", "head", "backward", "optimiser"), (BLACK, BLUE, RED, ORANGE, SKY), strict=True)
    )
    figure, ax = plt.subplots(figsize=(8, 0.5 * len(parts) + 1.3))
    total = max(sum(own.values()) for own in parts.values())
    unseen = {name for name in colours if max(own[name] for own in parts.values()) < 0.01 * total}
    said = {name: f"{name} (too short to be seen)" if name in unseen else name for name in colours}
    for row, own in enumerate(parts.values()):
        left = 0.0
        for name, colour in colours.items():
            ax.barh(row, own[name], left=left, color=colour, height=0.6, label=said[name] if row == 0 else None)
            left += own[name]
        ax.text(left, row, f" {left:.1f} s", va="center")
    ax.set_yticks(range(len(parts)), list(parts))
    ax.set(xlabel="seconds", xlim=(0, 1.12 * total))
    ax.invert_yaxis()
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def growth_curves(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Time (above) and memory (below) of both forms against what grows, on logarithmic scales."""
    axes_of = list(dict.fromkeys(p["axis"] for p in points))
    figure, axes = plt.subplots(2, len(axes_of), figsize=(9.5, 4.8), sharex="col", sharey="row")
    names = {"queries": "queries", "ways": "classes", "groups": "groups", "cells": "side of the map, cells"}
    for column, axis in zip(axes.T, axes_of, strict=True):
        for form, colour in (("literal", RED), ("fast", BLUE)):
            own = [p for p in points if (p["axis"], p["form"]) == (axis, form)]
            x = [p["value"] for p in own]
            column[0].loglog(x, [p["seconds"] for p in own], "o-", color=colour, markersize=4, label=form)
            column[1].loglog(x, [max(p["bytes"], 2**20) / 2**20 for p in own], "o-", color=colour, markersize=4)
        column[1].set_xlabel(names[axis])
        values = [p["value"] for p in points if (p["axis"], p["form"]) == (axis, "fast")]
        shown = _apart(values)
        column[1].set_xticks(shown, [str(v) for v in shown])
        column[1].minorticks_off()
    for ax in axes[:, 0]:  # no powers, whose exponents are small print
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("peak memory, MiB")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _apart(values: Sequence[int]) -> list[int]:
    """Those of ascending values whose labels do not touch on a logarithmic scale: the last of all, then downwards."""
    room = 0.14 * np.log(values[-1] / values[0])
    shown: list[int] = []
    for value in reversed(values):
        if not shown or np.log(shown[-1] / value) >= room:
            shown.append(value)
    return shown[::-1]
