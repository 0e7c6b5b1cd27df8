"""Does the aligned map depend on the class that it is aligned with? ``dmf-lab figure 4 --dataset NAME`` measures it.

Photographs have no object masks. What can be measured without: every query is aligned with the support of each class of
its episode, and the heat of a map is a cell's length over channels, as in `figure4_heat`. How much of the heat does the
alignment move to other cells, and how much of it lies elsewhere when the same query is aligned with another class; how
often is another cell the hottest; how much of the squared change in the features differs from class to class (0: it is
the same for all; four fifths: those of five classes have nothing in common); and does it change the answer? Means over
the queries of 5-way 1-shot episodes of novel classes, in percent; intervals are over episodes. Where the objects are
known, by boxes around them (tinyimagenet) or by masks, `figure4_heat` measures too how much of the heat lies on the
object.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from labkit import plotting
from labkit.common.devices import one_thread
from labkit.common.places import RESULTS
from labkit.data.glyphs.sharp import sharp
from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation import chosen, intervals, provenance
from labkit.evaluation.features import embed_pictures
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.can import CAN
from labkit.methods.cells import Cells
from labkit.studies import figure3_sampling, figure4_heat, figures_3_and_4
from labkit.studies.figure4_heat import heat, line
from labkit.sweeps.kept import write_result

# The three rows of the paper's figure: the first query of the first episodes, as in Figure 3; and as many at random.
CHOSEN = figure3_sampling.CHOSEN
NONE, LEFT_OUT = "no alignment", "alignment left out"  # trained so; only switched off
EULER = {1: "1 Euler step", 2: "2 Euler steps"}
ENTRIES = {
    "moved": "heat moved by the alignment",
    "by class": "heat that lies elsewhere for another class",
    "hottest moved": "another hottest cell than before",
    "hottest by class": "another hottest cell for another class",
    "class share": "feature change that differs by class",
    "accuracy": "right answers",
    "accuracy before": "right answers without the alignment",
    "answers changed": "answers changed by the alignment",
}


def aligned_with_all(model: DMF | CAN, support: Tensor, x_q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """An episode's queries aligned with every class, and what is answered with and without.

    Of features [1, N, K, c, h, w] and [1, Q, c, h, w]: maps [Q, N, c, h, w], scores [Q, N], and plain ones [Q, N].
    """
    x_supp = mean_of_shots(support)
    if isinstance(model, CAN):
        of_p, of_q = model.attention(x_supp, x_q)
        plain = model.score_maps(x_supp, x_q, torch.zeros_like(of_p)).mean((-2, -1))
        return model.align(x_q, of_q)[0], model.score(support, x_q)[0], plain[0]
    aligned, _ = model.align(x_q, model.filters(x_supp, x_q))
    return aligned[0], model.score(support, x_q)[0], model.variant(alignment="none").score(support, x_q)[0]


def moved(first: Tensor, second: Tensor) -> Tensor:
    """Percent of the heat of maps [..., h, w] that lies in other cells in the second than in the first: 0 to 100."""
    difference = (first / first.sum((-2, -1), keepdim=True) - second / second.sum((-2, -1), keepdim=True)).abs()
    return 50 * difference.sum((-2, -1))


def judge(x_q: Tensor, aligned: Tensor, scores: Tensor, plain: Tensor, labels: Tensor) -> dict[str, float]:
    """The measurements of one episode, an entry for each of `ENTRIES`, in percent.

    Of X_q [Q, c, h, w], what `aligned_with_all` gives, and labels [Q], which of the N classes each query belongs to.
    """
    each, n = torch.arange(len(labels)), aligned.shape[1]
    before, after = heat(x_q), heat(aligned)
    own, others = after[each, labels], [(labels + k) % n for k in range(1, n)]
    hottest, at = before.flatten(1).argmax(1), after.flatten(2).argmax(2)
    changes = (aligned - x_q[:, None]).flatten(2)  # [Q, N, ...]
    differ = (changes - changes.mean(1, keepdim=True)).square().sum((1, 2))
    all_of_it = changes.square().sum((1, 2))
    found = {
        "moved": moved(before, own).mean(),
        "by class": torch.stack([moved(own, after[each, k]) for k in others]).mean(),
        "hottest moved": 100 * (at[each, labels] != hottest).float().mean(),
        "hottest by class": 100 * torch.stack([at[each, labels] != at[each, k] for k in others]).float().mean(),
        "class share": 100 * (differ / all_of_it.clamp(min=1e-12)).mean(),
        "accuracy": 100 * (scores.argmax(1) == labels).float().mean(),
        "accuracy before": 100 * (plain.argmax(1) == labels).float().mean(),
        "answers changed": 100 * (scores.argmax(1) != plain.argmax(1)).float().mean(),
    }
    return {name: float(value) for name, value in found.items()}


@torch.inference_mode()
def measure(
    models: Mapping[str, Method], images: ImageSet, episodes: int = 200, seed: int = 0, query: int = 15, title: str = ""
) -> list[dict[str, Any]]:
    """A row a network: means over episodes with their 95 % intervals, under a progress bar if there is a title."""
    sampler = EpisodeSampler(images, 5, 1, query, seed)
    played: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for i in tqdm(range(episodes), title, disable=not title):
        _, support, asked, labels = sampler.indices(i)
        features: dict[int, tuple[Tensor, Tensor]] = {}  # by backbone: variants of a network share theirs
        for name, model in models.items():
            if (own := id(model.backbone)) not in features:
                shown, x_q = (embed_pictures(model, images.pixels[which]) for which in (support[:, 0], asked))
                features[own] = shown[None, :, None], x_q[None]
            found = aligned_with_all(_aligning(model), *features[own])
            played[name].append(judge(features[own][1][0], *found, torch.from_numpy(labels)))
    return [{"network": name} | intervals.row(pd.DataFrame(lines)) for name, lines in played.items()]


def _aligning(model: Method) -> DMF | CAN:
    if not isinstance(model, DMF | CAN):
        raise ValueError(f"Figure 4 shows what DMF and CAN align, got a {type(model).__name__}")
    return model


def columns(models: Mapping[str, Method]) -> dict[str, DMF | CAN]:
    """The networks of the figure: as given, and "DMF" once more with Euler's one and two steps on the same weights.

    Where no network without alignment is given, DMF's own weights stand there with the alignment left out.
    """
    found: dict[str, DMF | CAN] = {}
    for name, model in models.items():
        if isinstance(model, DMF) and name == "DMF":
            if NONE not in models:
                found[LEFT_OUT] = model.variant(alignment="none")
            found |= {name: model.variant(alignment=f"euler({k})") for k, name in EULER.items()}
            found["DMF (ODE)"] = model
        else:
            found[name] = _aligning(model)
    return {name: found[name] for name in sorted(found, key=lambda name: name not in (NONE, LEFT_OUT))}


def table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of `measure` as a table: what is measured downwards, networks across, cells of "27.4 ± 0.9" percent."""
    cells = {row["network"]: [intervals.shown(row[e], row[f"{e} ci95"]) for e in ENTRIES] for row in rows}
    return pd.DataFrame(cells, index=list(ENTRIES.values()))


def sentences(row: Mapping[str, Any], images: ImageSet) -> str:
    """What the numbers of one network say, in words that follow from them."""
    return "\n".join(
        [
            f"{row['network']} on {images.provenance.dataset}: the alignment moves {row['moved']:.1f} % of the heat to "
            f"other cells, and another cell becomes the hottest in {row['hottest moved']:.0f} % of the queries.",
            f"Aligned with another class, {row['by class']:.1f} % of the heat of the same query lies elsewhere, and "
            f"{row['class share']:.0f} % of the squared change in the features differs by class "
            "(0: the same for all five; 80: nothing in common).",
            f"It changes {row['answers changed']:.1f} % of the answers; {row['accuracy']:.1f} % are right with it and "
            f"{row['accuracy before']:.1f} % without.",
        ]
    )


def drawn_lines(models: Mapping[str, DMF | CAN], images: ImageSet, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """Figure 4 with queries that were fixed before they were drawn, and which these are as (episode, query)."""
    sampler = EpisodeSampler(images, 5, 1, 15, seed, preprocessing=next(iter(models.values())).preprocessing)
    which = {f"chosen {k + 1}": row for k, row in enumerate(CHOSEN)}
    which |= {f"random {k + 1}": row for k, row in enumerate(figure3_sampling.random_draws(3, (200, 75)))}  # type: ignore[misc]
    lines = [
        line(models, images, sampler, *row) | {"name": f"{name}:\nepisode {row[0]},\nquery {row[1]}"}
        for name, row in which.items()
    ]
    return figures_3_and_4.heat_rows(lines, list(models)), {"seed": seed, "rows": which}


def by_class(shown: Mapping[str, Method]) -> str:
    """The network whose maps are drawn class by class: DMF with the paper's ODE, or else the last."""
    return next((name for name in ("DMF (ODE)", "ODE") if name in shown), list(shown)[-1])


@torch.inference_mode()
def drawn_classes(model: DMF | CAN, images: ImageSet, seed: int = 0) -> Any:
    """The same query aligned with each of its five classes, for the three chosen queries, as a figure."""
    sampler = EpisodeSampler(images, 5, 1, 15, seed)
    shown = []
    for number, query in CHOSEN:
        classes, support, asked, labels = sampler.indices(number)
        x_q = embed_pictures(model, images.pixels[asked[query : query + 1]])[None]
        features = embed_pictures(model, images.pixels[support[:, 0]])[None, :, None]
        aligned, scores, _ = aligned_with_all(model, features, x_q)
        after = heat(aligned[0])
        shown.append(
            {
                "query": sharp(images, int(asked[query])),
                "supports": [sharp(images, int(i)) for i in support[:, 0]],
                "names": [plotting.readable(images.class_names[c]) for c in classes],
                "own": int(labels[query]),
                "before": heat(x_q[0, 0]),
                "heats": after,
                "scores": scores[0].tolist(),
                "moved": moved(after[int(labels[query])], after).tolist(),
                "cells": Cells.of(model).enlarged(len(sharp(images, int(asked[query]))) / images.size),
            }
        )
    return figures_3_and_4.heat_by_class(shown)


@one_thread()
def run(
    dataset: str,
    data_root: Path | None = None,
    weights: Sequence[Path | str] | None = None,
    episodes: int = 200,
    seed: int = 0,
    out: Path | None = None,
    figures: Path = Path("figures"),
) -> None:
    """Draw Figure 4 on a data set and measure the networks given; arguments as of `figure3_without_masks.run`.

    Raises:
        ValueError: a network that aligns nothing and is no DMF.
    """
    plotting.use_style()
    own, models, images = chosen.opened(weights, dataset, data_root)
    about = provenance.about(own, models, images) | {"episodes": episodes, "seed": seed}
    shown, name = columns(models), chosen.figure_name("figure4", dataset, own)
    command = provenance.figure_command("4", dataset, own, episodes=episodes, seed=seed)
    rows = measure(shown, images, episodes, seed, title="Figure 4")
    found: dict[str, Any] = {"rows": rows}
    if images.packed_masks is not None:
        played = {
            name: figure4_heat.play(m, images, range(episodes), seed, title=f"objects, {name}")
            for name, m in shown.items()
        }
        found["objects"] = figure4_heat.summarise(played, reference=by_class(shown))
    write_result(out or RESULTS / f"{name}.json", __doc__, command, about | found)
    figure, which = drawn_lines(shown, images, seed)
    plotting.save_in(figure, figures, name, command=command, **about, which=which, rows=rows)
    classes = drawn_classes(shown[by_class(shown)], images, seed)
    plotting.save_in(classes, figures, f"{name}_classes", command=command, **about)
    print(table(rows).to_string())
    drawn = [figure, classes]
    if "objects" in found:
        drawn.append(figures_3_and_4.inside_and_hottest(found["objects"]))
        plotting.save_in(drawn[-1], figures, f"{name}_measured", command=command, **about, objects=found["objects"])
    for each in drawn:
        plt.close(each)
    for what in ("inside", "hottest") if "objects" in found else ():
        print(f"{what} of the query's object, %")
        print(figure4_heat.table(found["objects"], what).to_string())
