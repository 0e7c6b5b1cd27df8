"""The head alone, from features to scores: time, memory, and how both grow."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.common.timing import alternate, peak_bytes, ratios, seconds
from labkit.dmf.sampling import TAPS, sample_by_bag, sample_by_grid
from labkit.studies.speed.setting import Setting, forms_of_head


def head(setting: Setting) -> dict[str, Any]:
    """Time of the head's forward pass, from features to scores; also with the closed form in place of RK4."""
    forms = forms_of_head(setting, setting.features())
    closed, features = setting.model(alignment="closed"), setting.features()
    forms["fast, closed form"] = torch.inference_mode()(lambda: closed.score(*features))
    times = alternate(forms, setting.runs, setting.device)
    return {"seconds": times, "ratio": ratios(times)}


def memory(setting: Setting) -> dict[str, Any]:
    """Peak memory of the head's forward pass, each form in a process of its own."""
    peaks = {}
    for form in ("literal", "fast"):
        script = (
            "from labkit.common.timing import peak_bytes\n"
            "from labkit.studies.speed.setting import Setting, forms_of_head\n"
            f"s = {setting!r}\nwork = forms_of_head(s, s.features())[{form!r}]\n"
            "print(peak_bytes(work, s.device))"
        )
        said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
        peaks[form] = int(said.split()[-1])
    return {"bytes": peaks, "share": round(peaks["fast"] / peaks["literal"], 4)}


def sampling(setting: Setting) -> dict[str, Any]:
    """Time of Eq. 5, the bilinear samples summed over nine taps, in the two ways of `labkit.dmf.sampling`.

    Maps of psi's responses of one episode's classes, and points up to two cells outside the map; without a gradient,
    as in scoring, and forward and backward, as in training.
    """
    generator, side = torch.Generator().manual_seed(1), -(-setting.size // 8)
    queries = setting.way * setting.query
    maps = torch.randn(setting.way, TAPS, setting.groups, side, side, generator=generator).to(setting.device)
    shape = (setting.way, queries, TAPS, 2, side, side)
    points = ((side + 4) * torch.rand(shape, generator=generator) - 2.5).to(setting.device)

    def trained(way: Callable[[Tensor, Tensor], Tensor]) -> None:
        leaves = maps.clone().requires_grad_(), points.clone().requires_grad_()
        way(*leaves).sum().backward()

    ways = {"grid_sample": sample_by_grid, "embedding_bag": sample_by_bag}
    forward = {name: partial(torch.inference_mode()(way), maps, points) for name, way in ways.items()}
    both = {name: partial(trained, way) for name, way in ways.items()}
    found = {}
    for what, forms in (("forward", forward), ("forward and backward", both)):
        times = alternate(forms, setting.runs, setting.device)
        found[what] = {"seconds": times, "ratio": ratios(times, against="grid_sample")}
    return found


def growth(setting: Setting) -> dict[str, Any]:
    """Time and peak memory of the head against queries, ways, groups and map size, and the largest episode."""
    channels = setting.model().channels
    axes: dict[str, list[int]] = {
        "queries": [15, 30, 75, 150, 300, 600],
        "ways": [5, 10, 25, 50, 100],
        "groups": [g for g in (1, 4, 16, 64, 160, 320, 640) if channels % g == 0],
        "cells": [6, 11, 16, 21],
    }
    points = []
    for axis, values in axes.items():
        for value in values:
            features = setting.features(
                way=value if axis == "ways" else 5,
                queries=value if axis == "queries" else 15,
                cells=value if axis == "cells" else None,
            )
            changed = replace(setting, groups=value if axis == "groups" else setting.groups)
            pairs = features[0].shape[1] * features[1].shape[1]
            for form, work in forms_of_head(changed, features).items():
                if form == "literal" and pairs > setting.growth:
                    continue
                if form == "fast":
                    work()  # too short for the cost of a first call not to show
                taken: list[float] = []
                used = peak_bytes(lambda w=work, t=taken: t.append(seconds(w, setting.device)), setting.device)  # type: ignore[misc]
                point = {"axis": axis, "value": value, "form": form, "pairs": pairs}
                points.append(point | {"seconds": round(taken[0], 5), "bytes": used})
    return {"points": points, "slopes": slopes(points)}


def slopes(points: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Exponents of growth, fitted to the upper half of each curve on logarithmic scales: 1 is proportional."""
    fitted: dict[str, dict[str, float]] = {}
    for axis in dict.fromkeys(p["axis"] for p in points):
        for form in ("literal", "fast"):
            own = [p for p in points if (p["axis"], p["form"]) == (axis, form)]
            own = own[-max(2, (len(own) + 1) // 2) :]
            x, y = (np.log([p[k] for p in own]) for k in ("value", "seconds"))
            fitted.setdefault(axis, {})[form] = round(float(np.polyfit(x, y, 1)[0]), 2)
    return fitted


def largest(setting: Setting) -> dict[str, Any]:
    """The fast form on an episode of 100 classes and 1500 queries."""
    features = setting.features(way=100, queries=1500)
    model = setting.model(alignment="closed")
    work = torch.inference_mode()(lambda: model.score(*features))
    used = peak_bytes(work, setting.device)
    taken = seconds(work, setting.device)
    held = sum(t.numel() * t.element_size() for t in features)
    return {"seconds": round(taken, 2), "bytes": used, "bytes_of_features": held}
