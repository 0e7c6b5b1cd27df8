"""``python -m labkit.studies.speed.measure OUT.json``: the fast form against the literal one, side by side, in one run.

Ratios of medians, the two forms alternating, random weights, the paper's sizes: ResNet-12, images of 84 px, 5-way
1-shot, 15 queries a class (6 in training), 64 groups, 11 x 11 maps. Every part is written as soon as it is measured; a
part that is in OUT.json already is not measured again. On a CPU all parts take some twenty minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.common.files import write_atomically
from labkit.common.timing import about, alternate, peak_bytes, ratios, seconds
from labkit.data import load_images
from labkit.data.imageset import ImageSet
from labkit.dmf import sampling
from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.protocol import evaluate
from labkit.models.checkpoints import load_model
from labkit.studies.speed import kernels
from labkit.studies.speed.literal import LiteralDMF
from labkit.training.loop import timed_steps
from labkit.training.settings import experiment


@dataclass(frozen=True)
class Setting:
    """What is measured. Smaller ones make the live cells of notebook 10 and the tests.

    Attributes:
        way, query, groups: of an episode (queries per class) and of the filter.
        width, size: of the ResNet-12 and of the images, in shares of the paper's channels and in pixels.
        episodes: of the protocol; the literal form runs `literal_episodes` and is scaled.
        runs: of either form, alternating, of which the median counts.
        per_class: images of a class, of which all are embedded.
        growth: largest number of pairs of query and class that the literal form is given.
    """

    way: int = 5
    query: int = 15
    groups: int = 64
    width: float = 1.0
    size: int = 84
    episodes: int = 2000
    literal_episodes: int = 10
    runs: int = 5
    per_class: int = 600
    growth: int = 750
    device: str = "cpu"

    def model(self, **choices: Any) -> DMF:
        """The released network with random weights, in eval mode."""
        torch.manual_seed(0)
        options = {"width": self.width}
        return DMF("resnet12", self.groups, "released", backbone_options=options, **choices).eval().to(self.device)

    def images(self, split: str) -> ImageSet:
        return load_images("glyphs-mini", split, size=self.size, per_class=self.per_class, progress=False)

    def features(self, way: int | None = None, queries: int | None = None, cells: int | None = None) -> list[Tensor]:
        """Random features of one episode, [1, N, 1, c, h, w] and [1, Q, c, h, w]."""
        n, q = way or self.way, queries or self.way * self.query
        shape = (self.model().channels, *2 * (cells or -(-self.size // 8),))
        generator = torch.Generator().manual_seed(1)
        made = (torch.randn(1, *lead, *shape, generator=generator) for lead in ((n, 1), (q,)))
        return [t.to(self.device) for t in made]


def _forms(setting: Setting, features: list[Tensor], model: DMF | None = None) -> dict[str, Callable[[], Any]]:
    model = model or setting.model()
    literal, x_supp = LiteralDMF(model), features[0].mean(2)
    return {
        "literal": torch.inference_mode()(lambda: literal.head(x_supp, features[1]).mean((-2, -1))),
        "fast": torch.inference_mode()(lambda: model.score(*features)),
    }


def head(setting: Setting) -> dict[str, Any]:
    """Time of the head's forward pass, from features to scores; also with the closed form in place of RK4."""
    forms = _forms(setting, setting.features())
    closed, features = setting.model(alignment="closed"), setting.features()
    forms["fast, closed form"] = torch.inference_mode()(lambda: closed.score(*features))
    times = alternate(forms, setting.runs, setting.device)
    return {"seconds": times, "ratio": ratios(times)}


def memory(setting: Setting) -> dict[str, Any]:
    """Peak memory of the head's forward pass, each form in a process of its own."""
    peaks = {}
    for form in ("literal", "fast"):
        script = (
            "from labkit.studies.speed.measure import Setting, _forms\nfrom labkit.common.timing import peak_bytes\n"
            f"s = {setting!r}\nwork = _forms(s, s.features())[{form!r}]\n"
            "print(peak_bytes(work, s.device))"
        )
        said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
        peaks[form] = int(said.split()[-1])
    return {"bytes": peaks, "share": round(peaks["fast"] / peaks["literal"], 4)}


def step(setting: Setting) -> dict[str, Any]:
    """A training step of four episodes, by its parts: literal in float32, ours in float32 and in bfloat16."""
    sampler = EpisodeSampler(
        setting.images("train"), setting.way, 1, min(setting.query, 6), device=setting.device, augment=MINI.augment
    )
    networks: dict[str, tuple[LiteralDMF | DMF, DMF, bool]] = {}
    for name, bfloat16 in (("literal", False), ("fast", False), ("fast, bfloat16", True)):
        model = setting.model(**({} if name == "literal" else {"alignment": "closed"})).train()
        if name != "literal":
            model = model.to(memory_format=torch.channels_last)
        networks[name] = (LiteralDMF(model) if name == "literal" else model, model, bfloat16)
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in networks}
    for run in range(setting.runs + 1):
        for name, (form, model, bfloat16) in networks.items():
            measured = _step_parts(form, model, sampler, run, bfloat16)
            if run:  # the first is for warming up
                parts[name].append(measured)
    total = {name: [round(sum(p.values()), 4) for p in rows] for name, rows in parts.items()}
    medians = {
        name: {k: round(statistics.median(r[k] for r in rows), 4) for k in rows[0]} for name, rows in parts.items()
    }
    share = max(medians[n]["episodes"] / statistics.median(total[n]) for n in ("fast", "fast, bfloat16"))
    return {"seconds": total, "ratio": ratios(total), "parts": medians, "episodes_share": round(share, 5)}


def _step_parts(
    form: LiteralDMF | DMF, model: DMF, sampler: EpisodeSampler, run: int, bfloat16: bool
) -> dict[str, float]:
    """Seconds of each part of one step; parts follow one another through `state`."""
    device = sampler.pixels.device.type
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
    state: dict[str, Any] = {}

    def embedding(*_: Any) -> None:
        state["backbone"] = time.perf_counter() - state["started"]

    def forward() -> None:
        batch = state["batch"]
        base = batch.classes.gather(1, batch.query_labels)
        state["started"] = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            state["loss"] = form.loss(batch.support, batch.query, batch.query_labels, base).total

    times = {"episodes": seconds(lambda: state.update(batch=sampler.batch(range(4 * run, 4 * run + 4))), device)}
    hook = model.backbone.register_forward_hook(embedding)
    both = seconds(forward, device)
    hook.remove()
    times |= {"backbone": state["backbone"], "head": both - state["backbone"]}
    times["backward"] = seconds(lambda: state["loss"].backward(), device)
    times["optimiser"] = seconds(optimiser.step, device)
    optimiser.zero_grad()
    return times


def test(setting: Setting) -> dict[str, Any]:
    """The paper's protocol: ours in full, embedding in bfloat16; the literal form on some episodes, scaled.

    Ours in float32 is that time, with the embedding replaced by one in float32, measured on 256 images.
    """
    images = setting.images("test")
    sampler = EpisodeSampler(images, setting.way, 1, setting.query, device=setting.device)
    model, literal = setting.model(alignment="closed"), LiteralDMF(setting.model())
    model.preprocessing = prepared = Preprocessing.of(images)
    model = model.to(memory_format=torch.channels_last)
    times = []
    some = prepared.normalise(prepared.to_unit(sampler.pixels[:256]))

    def embed(bfloat16: bool) -> None:
        with torch.autocast(setting.device, torch.bfloat16, enabled=bfloat16):
            model.embed(some)

    with torch.inference_mode():
        for i in range(setting.literal_episodes + 1):  # the first is for warming up
            episode = sampler.batch([i])
            times.append(seconds(partial(literal, episode.support, episode.query), setting.device))
        embedding = alternate({"float32": partial(embed, False), "bfloat16": partial(embed, True)}, 2, setting.device)
    evaluation = partial(evaluate, model, images, setting.way, 1, setting.query, setting.episodes, bfloat16=True)
    whole = {"literal, scaled": statistics.mean(times[1:]) * setting.episodes}
    whole["fast, bfloat16"] = seconds(evaluation, setting.device)
    dearer = statistics.median(embedding["float32"]) - statistics.median(embedding["bfloat16"])
    whole["fast"] = whole["fast, bfloat16"] + dearer * len(images) / len(some)
    ratio = {k: round(whole["literal, scaled"] / v, 2) for k, v in whole.items() if k != "literal, scaled"}
    return {
        "literal_seconds_an_episode": [round(t, 4) for t in times[1:]],
        "seconds_to_embed_256": embedding,
        "seconds": {k: round(v, 2) for k, v in whole.items()},
        "ratio": ratio,
    }


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
            changed = Setting(**vars(setting) | {"groups": value if axis == "groups" else setting.groups})
            pairs = features[0].shape[1] * features[1].shape[1]
            for form, work in _forms(changed, features).items():
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


def sampling_kernels(setting: Setting) -> dict[str, Any]:
    """The ways to sample, forward and with gradients, at the sizes of a test episode and of a training step."""
    cells = -(-setting.size // 8)
    result = {}
    for what, b, queries, gradient in (("forward", 5, 75, False), ("forward and backward", 20, 30, True)):
        torch.manual_seed(0)
        maps = torch.randn(b, 9, setting.groups, cells, cells, device=setting.device, requires_grad=gradient)
        points = 2 * torch.randn(b, queries, 9, 2, cells, cells, device=setting.device) + sampling.regular_grid(
            cells, cells, maps
        )
        points = points.detach().requires_grad_(gradient)
        forms: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "grid_sample": sampling.sample_by_grid,
            "embedding_bag": sampling.sample_by_bag,
            "gather": kernels.sample_by_gather,
            "dense matrix": kernels.sample_by_matrix,
        }
        if setting.device == "cuda" and not gradient:
            forms["Triton"] = kernels.sample_by_triton
        works = {name: partial(_sampled, form, maps, points) for name, form in forms.items()}
        times = alternate(works, setting.runs, setting.device)
        result[what] = {"seconds": times, "ratio": ratios(times, against="grid_sample")}
    return result


def _sampled(form: Callable[[Tensor, Tensor], Tensor], maps: Tensor, points: Tensor) -> None:
    out = form(maps, points)
    if out.requires_grad:
        out.square().sum().backward()


def agreement(setting: Setting) -> dict[str, Any]:
    """Accuracy of the shipped quick model: float32, bfloat16, and the literal head, on the same novel episodes."""
    images = load_images("glyphs-mini", "test", size=40, per_class=200, progress=False)
    shipped: Any = load_model("quick", setting.device)
    model = shipped.variant(alignment="rk4")
    results = {
        "float32": evaluate(model, images, episodes=setting.episodes),
        "bfloat16": evaluate(model, images, episodes=setting.episodes, bfloat16=True),
    }
    rows = {name: {"accuracy": round(r.accuracy, 3), "ci95": round(r.ci95, 3)} for name, r in results.items()}
    difference = results["bfloat16"].per_episode - results["float32"].per_episode
    paired = [
        round(float(difference.mean()), 4),
        round(float(1.96 * difference.std(ddof=1) / len(difference) ** 0.5), 4),
    ]
    literal, sampler = (
        LiteralDMF(model),
        EpisodeSampler(images, device=setting.device, preprocessing=model.preprocessing),
    )
    worst, other, count = 0.0, 0, min(20, setting.episodes)
    with torch.inference_mode():
        for i in range(count):
            e = sampler.batch([i])
            fast, slow = model(e.support, e.query), literal(e.support, e.query)
            worst = max(worst, float((fast - slow).abs().max() / slow.abs().max()))
            other += int((fast.argmax(-1) != slow.argmax(-1)).sum())
    forms = {"episodes": count, "largest_difference": worst, "other_answers": other}
    return {"accuracy": rows, "bfloat16_minus_float32": paired, "fast_against_literal": forms}


def schedule(setting: Setting) -> dict[str, Any]:
    """Steps of the paper's mini 1-shot training on a GPU, their share of its bfloat16 peak, and the whole forecast."""
    if setting.device != "cuda":
        return {"not_measured": "no GPU was at hand"}
    images = setting.images("train")
    e = experiment("mini-1shot", bfloat16=True)
    times = timed_steps(e, images, setting.device, count=200, warm_up=30)
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    product = alternate({"matmul": lambda: a @ a}, 10, "cuda")["matmul"]
    peak = 2 * 8192**3 / statistics.median(product)
    from torch.utils.flop_counter import FlopCounterMode

    model = setting.model()
    with FlopCounterMode(display=False) as counter:
        model.backbone(torch.randn(4 * 35, 3, setting.size, setting.size, device="cuda")).sum().backward()
    work = counter.get_total_flops()
    median = statistics.median(times)
    return {
        "seconds_a_step": round(median, 5),
        "minutes_of_all_steps": round(median * e.steps / 60, 2),
        "backbone_flops_a_step": work,
        "matmul_peak_flops": peak,
        "share_of_peak": round(work / median / peak, 4),
    }


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "head": head,
    "memory": memory,
    "step": step,
    "kernels": sampling_kernels,
    "agreement": agreement,
    "growth": growth,
    "largest": largest,
    "test": test,
    "schedule": schedule,
}
MINI = experiment("mini-1shot")


def measure(setting: Setting, file: Path, parts: list[str]) -> dict[str, Any]:
    """Measure the parts that `file` lacks, writing it after each; returns all that it holds then."""
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for name in parts:
        if name not in content:
            print(f"{name} ...", flush=True)
            content[name] = PARTS[name](setting) | {"setting": vars(setting), "made": about(setting.device)}
            write_atomically(file, (json.dumps(content, indent=1) + "\n").encode())
    return content


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the fast form against the literal one.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measure(Setting(device=arguments.device), arguments.out, arguments.parts)
