"""Does alignment bring the query's object out, as Figure 4 of the paper shows? ``dmf-lab figure 4`` measures it.

Section 5.3 says that DMF "is able to focus on the target object", better than CAN and than no alignment, and that the
ODE does so "in all circumstances" where one and two steps each handle different data. Here every query is aligned with
the support of its own class by each network. The heat of a cell is the length over channels of the aligned map there,
divided by its mean over the map: 1 is an even spread, whatever the scale of a network's features. Over the picture a
cell's heat fills the pixels of the cell. Measured with the object masks: the share of the heat that lies inside, and
how often the hottest cell's centre is on the object. A second heat is the score map of the true class where it is
positive, which is what decides. Beside each stand the same network's map before it was aligned, the same heat judged
by the mask of another query, chance, an even spread, and what a map of so few cells could reach at best.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from labkit.common import places
from labkit.common.devices import one_thread
from labkit.data import load_images
from labkit.data.glyphs.sharp import sharp
from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation import intervals
from labkit.evaluation.features import embed_pictures, eval_mode
from labkit.evaluation.play import Features, on_features, pictures_of
from labkit.methods.base import mean_of_shots
from labkit.methods.can import CAN
from labkit.methods.cells import Cells
from labkit.studies.figure3_sampling import cells_on_object, has_boxes
from labkit.studies.networks import Network
from labkit.sweeps.kept import write_result

RESULTS = places.RESULTS / "figure4.json"
ODE, STEPS = "ODE", ("1 step", "2 steps")
# All trained in the quick setting, seed 0.
NETWORKS = {
    "no alignment": Network("quick-none"),
    "1 step": Network("quick-1step"),
    "2 steps": Network("quick-2steps"),
    ODE: Network("quick"),
    "CAN": Network("quick-can"),
    "the ODE's weights, 1 step": Network("quick", {"alignment": "recurrent(1)"}),
    "the ODE's weights, 2 steps": Network("quick", {"alignment": "recurrent(2)"}),
}
# The columns of Figure 4; the other networks tell what another training does from what a step does.
FIGURE = tuple(NETWORKS)[:5]
HEATS = ("feature", "score")
BEFORE, AFTER, OTHER, CHANCE, BEST = "before", "aligned", "another's mask", "chance", "at best"


@torch.inference_mode()
def aligned_maps(model: DMF | CAN, support: Tensor, x_q: Tensor, labels: Tensor) -> dict[str, dict[str, Tensor]]:
    """The maps of an episode's queries before and after alignment with the support of their own class.

    Args:
        support, x_q: features [1, N, K, c, h, w] and [1, Q, c, h, w].
        labels: [Q], which of the N classes each query belongs to.

    Returns:
        `BEFORE` and `AFTER` the alignment: ``"feature"`` [Q, c, h, w], and ``"score"`` [Q, 1, h, w], the score map of
        the own class, unscaled and without the border that some choices add.
    """
    x_supp, each = mean_of_shots(support), torch.arange(len(labels))
    if isinstance(model, CAN):
        of_p, of_q = model.attention(x_supp, x_q)
        aligned = model.align(x_q, of_q[:, each, labels].unsqueeze(2))[0, :, 0]
        plain = torch.zeros_like(of_p)  # an attention of 0 leaves a map as it is
        both = [model.score_maps(x_supp, x_q, attention)[0, each, labels, None] for attention in (plain, of_p)]
    else:
        aligned = model.align_with_own_class(x_q, model.filters(x_supp, x_q), labels[None])[0]
        weights = model.class_weights(x_supp)[0, labels]
        both = [torch.einsum("qchw,qc->qhw", x, weights)[:, None] for x in (x_q[0], aligned)]
    return {BEFORE: {"feature": x_q[0], "score": both[0]}, AFTER: {"feature": aligned, "score": both[1]}}


def heat(maps: Tensor) -> Tensor:
    """The length of each cell over channels, in multiples of the map's mean: [..., c, h, w] to [..., h, w].

    Of a map of one channel the positive part counts. A map without any is 1 everywhere.
    """
    lengths = maps.relu().squeeze(-3) if maps.shape[-3] == 1 else maps.norm(dim=-3)
    mean = lengths.mean((-2, -1), keepdim=True)
    return torch.where(mean > 0, lengths / mean.clamp(min=1e-12), torch.ones_like(lengths))


def over_picture(heats: Tensor, size: int, cells: Cells) -> Tensor:
    """Heat [..., h, w] at every pixel [..., size, size]: a cell's, over the pixels of the cell."""
    pixels = cells.at_pixels(size, heats.shape[-1])
    return heats[..., pixels[:, None], pixels]


def share_inside(heats: Tensor, masks: Tensor, cells: Cells) -> Tensor:
    """Percent of the heat over a picture that lies on the object: [B, h, w] and masks [B, S, S] to [B]."""
    spread = over_picture(heats, masks.shape[-1], cells)
    return 100 * (spread * masks).sum((1, 2)) / spread.sum((1, 2))


def best_inside(masks: Tensor, side: int, cells: Cells) -> Tensor:
    """The share that a map of side x side cells could have inside at best, all in one cell: [B, S, S] to [B]."""
    each = over_picture(torch.eye(side**2).view(-1, side, side), masks.shape[-1], cells)
    inked = torch.einsum("kyx,byx->bk", each, masks.to(each.dtype))
    return 100 * (inked / each.sum((1, 2)).clamp(min=1)).amax(1)


def hottest_on_object(heats: Tensor, masks: Tensor, cells: Cells) -> Tensor:
    """Whether the centre of the hottest cell is on the object: [B, h, w] and masks [B, S, S] to bool [B]."""
    on = cells_on_object(masks, heats.shape[-1], cells).flatten(1)
    return on.gather(1, heats.flatten(1).argmax(1, keepdim=True))[:, 0]


def judge(
    maps: Mapping[str, Mapping[str, Tensor]], masks: Tensor, cells: Cells
) -> dict[tuple[str, str, str], NDArray[np.float64]]:
    """The measurements of every query of an episode, in percent, of `aligned_maps` and the objects' masks [Q, S, S].

    Returns:
        by heat (of `HEATS`), map (`BEFORE`, `AFTER`, `OTHER`, `CHANCE`, `BEST`) and what is measured (``"inside"``,
        ``"hottest"``); of `AFTER` also the number of the hottest ``"cell"``: [Q].
    """
    found: dict[tuple[str, str, str], NDArray[np.float64]] = {}
    for kind in HEATS:
        before, after = (heat(maps[when][kind]) for when in (BEFORE, AFTER))
        judged = {BEFORE: (before, masks), AFTER: (after, masks), OTHER: (after, masks.roll(1, 0))}
        for name, (heats, object_masks) in judged.items():
            found[kind, name, "inside"] = share_inside(heats, object_masks, cells).double().numpy()
            found[kind, name, "hottest"] = 100 * hottest_on_object(heats, object_masks, cells).double().numpy()
        found[kind, AFTER, "cell"] = after.flatten(1).argmax(1).double().numpy()
        on = cells_on_object(masks, after.shape[-1], cells).double()
        found[kind, CHANCE, "inside"] = share_inside(torch.ones_like(after), masks, cells).double().numpy()
        found[kind, CHANCE, "hottest"] = 100 * on.mean((1, 2)).numpy()
        found[kind, BEST, "inside"] = best_inside(masks, after.shape[-1], cells).double().numpy()
        found[kind, BEST, "hottest"] = 100 * on.amax((1, 2)).numpy()
    return found


def play(
    model: DMF | CAN, images: ImageSet, episodes: Iterable[int], seed: int = 0, query: int = 15, title: str = ""
) -> pd.DataFrame:
    """`judge` for some 5-way 1-shot episodes: a line for every query, a column for every measurement."""
    sampler = EpisodeSampler(images, 5, 1, query, seed, preprocessing=model.preprocessing)
    drawn = {i: sampler.indices(i) for i in episodes}
    used = pictures_of(list(drawn.values()))
    features = Features(embed_pictures(model, images.pixels[used]), used)
    lines = {}
    for i, draw in tqdm(drawn.items(), title, disable=not title):
        played = on_features([draw], features)
        maps = aligned_maps(model, played.support, played.query, torch.from_numpy(played.labels[0]))
        lines[i] = pd.DataFrame(judge(maps, images.masks(draw[2]), Cells.of(model)))
    return pd.concat(lines, names=["episode", "query"])


def summarise(played: Mapping[str, pd.DataFrame], reference: str = ODE) -> list[dict[str, Any]]:
    """A row for every network and heat, from `play`, in percent; intervals are over episodes, differences paired.

    "gain" is what the alignment adds to the same network's map; "minus ODE" the aligned map's difference from the
    reference network's, which is called by its name where it is another; "same hottest cell" how often the two are
    hottest in the same cell.
    """
    minus = f"minus {ODE if ODE in reference else reference}"
    by_episode = {name: lines.groupby(level="episode").mean() for name, lines in played.items()}
    rows = []
    for name, own in by_episode.items():
        for kind in HEATS:
            row: dict[str, Any] = {"network": name, "heat": kind}
            for what in ("inside", "hottest"):
                part = {when: own[kind, when, what] for when in (AFTER, BEFORE, OTHER, CHANCE, BEST)}
                part["gain"] = part[AFTER] - part[BEFORE]
                part[minus] = part[AFTER] - by_episode[reference][kind, AFTER, what]
                for entry, values in part.items():
                    row |= intervals.entries(f"{what}, {entry}", values)
            cells = [played[n][kind, AFTER, "cell"] for n in (name, reference)]
            row["same hottest cell"] = round(100 * float((cells[0] == cells[1]).mean()), 2)
            rows.append(row)
    return rows


def circumstances(played: Mapping[str, pd.DataFrame], kind: str = "feature") -> list[dict[str, Any]]:
    """Section 5.3's second claim: how often ODE and CAN hit where one step, two steps, both or neither do.

    A hit is a hottest cell on the object.
    """
    hit = {name: lines[kind, AFTER, "hottest"] > 50 for name, lines in played.items()}
    one, two = (hit[name] for name in STEPS)
    cases = {"both": one & two, "only 1 step": one & ~two, "only 2 steps": ~one & two, "neither": ~one & ~two}
    others = [name for name in FIGURE if name not in STEPS]
    return [
        {"hit by": case, "queries, %": round(100 * float(chosen.mean()), 2)}
        | {name: round(100 * float(hit[name][chosen].mean()), 1) for name in others}
        for case, chosen in cases.items()
    ]


def rows_of_figure_4(played: Mapping[str, pd.DataFrame]) -> dict[str, tuple[int, int]]:
    """The first queries that are what the paper says of its three rows, by who hits them, as (episode, query).

    By one and two steps alone: both hit the object; two steps hit and one does not; one step hits and two do not. What
    the other networks make of these queries had no say.

    Raises:
        ValueError: no query of `played` is of one of these kinds.
    """
    hit = {name: (played[name]["feature", AFTER, "hottest"] > 50).to_numpy() for name in STEPS}
    one, two = (hit[name] for name in STEPS)
    found = {}
    for what, chosen in {"both hit": one & two, "only 2 steps hit": two & ~one, "only 1 step hits": one & ~two}.items():
        if not chosen.any():
            raise ValueError(f"of {len(one)} queries there is none that {what}: play more episodes")
        episode, query = played[STEPS[0]].index[int(chosen.argmax())]
        found[what] = int(episode), int(query)
    return found


def line(
    models: Mapping[str, DMF | CAN], images: ImageSet, sampler: EpisodeSampler, number: int, query: int
) -> dict[str, Any]:
    """One query of episode `number` as `figures_3_and_4.heat_rows` draws it: a heat [h, w] for each of `models`."""
    episode = sampler[number]
    shot, asked = int(episode.support_index[episode.query_labels[query], 0]), int(episode.query_index[query])
    own = episode.query_labels[query : query + 1]
    mask = None if images.packed_masks is None else images.masks(asked)
    heats, right = [], []
    for model in models.values():
        with eval_mode(model):
            features = model.embed_together(episode.support[None], episode.query[None, query : query + 1])
            right.append(bool(model.score(*features)[0].argmax(1) == own))
        heats.append(heat(aligned_maps(model, *features, own)[AFTER]["feature"])[0])
    shown: dict[str, Any] = {"support": sharp(images, shot), "query": sharp(images, asked), "mask": mask}
    shown["outline"] = "the box of the query's object" if has_boxes(images) else "the query's object"
    hits = None
    if mask is not None:
        each = zip(models.values(), heats, strict=True)
        hits = [bool(hottest_on_object(h[None], mask[None], Cells.of(model))) for model, h in each]
    scale = len(shown["query"]) / images.size  # pixels shown for each that the network reads
    return shown | {
        "heats": torch.stack(heats),
        "right": right,
        "hits": hits,
        "cells": [Cells.of(m).enlarged(scale) for m in models.values()],
        "name": f"episode {number},\nquery {query}",
    }


def table(rows: Sequence[Mapping[str, Any]], what: str, kind: str = "feature") -> pd.DataFrame:
    """``"inside"`` or ``"hottest"`` of `summarise` as a table: networks downwards, cells of "27.4 ± 0.9"."""
    lines, digits = {}, 2 if what == "inside" else 1
    for row in rows:
        if row["heat"] == kind:
            entries = [e.split(", ")[1] for e in row if e.startswith(f"{what}, ") and not e.endswith("ci95")]
            lines[row["network"]] = {
                e: intervals.shown(row[f"{what}, {e}"], row[f"{what}, {e} ci95"], digits) for e in entries
            }
    return pd.DataFrame(lines).T


@one_thread()
def run(episodes: int = 200, seed: int = 0, out: Path = RESULTS) -> None:
    """Measure every network and write the result."""
    images = load_images("glyphs-mini", "test", size=40, per_class=200, progress=False)
    played = {name: play(n.load(), images, range(episodes), seed, title=name) for name, n in NETWORKS.items()}
    hits = {name: lines["feature", AFTER, "hottest"].groupby(level="episode").mean() for name, lines in played.items()}
    content = {
        "episodes": episodes,
        "seed": seed,
        "images": images.digest,
        "networks": {name: network.about() for name, network in NETWORKS.items()},
        "episode 0": {name: round(float(values.to_numpy()[0]), 3) for name, values in hits.items()},
        "rows": summarise(played),
        "circumstances": circumstances(played),
    }
    write_result(out, __doc__, "dmf-lab figure 4", content)
