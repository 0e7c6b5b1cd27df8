"""Do the sampled points of Figure 3 lie on the object? ``dmf-lab figure 3`` measures it.

"The dynamic sampling can successfully learn where to collect the knowledge", the paper says of Figure 3 (section 5.3).
Every query is paired with the support of its own class, and the object masks say which of the points read for a query
position lie on the support's object: the mask's bilinear value at the point, 0 outside the picture, averaged over the
nine points of all positions of an episode. Positions are counted apart by whether they lie on the query's own object
(the mask is at least 1/2 at their centre). Beside the learned points stand those of the grid from which the offsets
lead, offsets of the same lengths in random directions, the learned points judged by the mask of another class's
support, and chance, a point anywhere in the picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from labkit import plotting
from labkit.common.devices import one_thread
from labkit.common.places import RESULTS as SHIPPED
from labkit.data import load_images
from labkit.data.glyphs.sharp import sharp
from labkit.data.imageset import ImageSet
from labkit.data.tinyimagenet import BOXES
from labkit.dmf.model import DMF
from labkit.dmf.sampling import TAPS, corners, regular_grid
from labkit.episodes.sampler import Episode, EpisodeSampler
from labkit.evaluation import intervals
from labkit.methods.base import mean_of_shots
from labkit.methods.cells import Cells
from labkit.studies.networks import Network
from labkit.sweeps.kept import write_result

RESULTS = SHIPPED / "figure3.json"
UNTRAINED = "DMF, untrained"
NETWORKS = {"DMF": Network("quick"), UNTRAINED: Network(None)}
LEARNED, GRID, RANDOM, OTHER, CHANCE = "learned", "grid", "random directions", "another's object", "chance"
# The pairs of Figure 3 as (episode, query), and the seed of the random ones: fixed before any of them was looked at.
# Of the chosen pairs the query position is the cell that holds most of the object; the random ones have a random cell.
CHOSEN = ((0, 0), (1, 0), (2, 0))
RANDOM_SEED = 2021


def own_points(model: DMF, x_supp: Tensor, x_q: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where the filters of every query's own class begin to look, and the learned offsets from there.

    Of X_supp [E, N, c, h, w], X_q [E, Q, c, h, w] and labels [E, Q]: both [E, Q, 9, 2, h, w], (y, x) in feature cells;
    their sum is where X_supp is sampled.
    """
    offsets = model.offsets(x_supp, x_q)
    starts = model.starts(x_supp, x_q).expand_as(offsets)
    own = labels[:, :, None, None, None, None, None].expand(-1, -1, 1, *offsets.shape[3:])
    return starts.gather(2, own).squeeze(2), offsets.gather(2, own).squeeze(2)


def on_object(masks: Tensor, places: Tensor) -> Tensor:
    """Bilinear value of masks [B, H, W] at places (y, x) in pixels, [B, T, 2, h, w], and 0 outside: [B, T, h, w]."""
    cells, weights = (part.squeeze(1) for part in corners(places.unsqueeze(1), *masks.shape[-2:]))
    values = masks.flatten(1).to(weights.dtype).gather(1, cells.flatten(1)).view(weights.shape)
    return (values * weights).sum(-1)


def cells_on_object(masks: Tensor, side: int, cells: Cells) -> Tensor:
    """Which of side x side feature cells have their centre on the object: masks [B, S, S] to bool [B, side, side].

    The backbone's last cells may reach beyond the picture.
    """
    centres = cells.to_pixels(regular_grid(side, side, torch.empty(0))[TAPS // 2])
    return on_object(masks, centres.expand(len(masks), 1, 2, side, side))[:, 0] >= 0.5


def boxes(masks: Tensor) -> Tensor:
    """Masks of the objects' bounding boxes, bool [B, H, W], from the masks of the objects, [B, H, W]."""
    spans = [_between(masks.any(axis)) for axis in (1, 2)]  # columns that hold ink, and rows
    return spans[1][:, :, None] & spans[0][:, None, :]


def fullest_cell(mask: Tensor, side: int, cells: Cells) -> tuple[int, int]:
    """Row and column of the feature cell, of side x side, that an object fills most: mask [S, S]."""
    of = cells.at_pixels(mask.shape[-1], side)
    places = (of[:, None] * side + of).flatten()
    ink = torch.zeros(side**2).index_add_(0, places, mask.float().flatten())
    return divmod(int((ink / torch.bincount(places, minlength=side**2).clamp(min=1)).argmax()), side)


def middle_cell(mask: Tensor, side: int, cells: Cells) -> tuple[int, int]:
    """Row and column of the feature cell, of side x side, that holds the middle of an object: mask [S, S].

    For boxes, which fill many cells alike.
    """
    of = cells.at_pixels(mask.shape[-1], side)
    y, x = (int(of[int(places.median())]) for places in mask.nonzero().T)
    return y, x


def random_draws(count: int, limits: Sequence[int], seed: int = RANDOM_SEED) -> list[tuple[int, ...]]:
    """`count` tuples of integers, each below its limit: episodes, queries, cells."""
    drawn = np.random.default_rng(seed).integers(0, limits, (count, len(limits)))
    return [tuple(row) for row in drawn.tolist()]


def _between(inked: Tensor) -> Tensor:
    """True from the first True to the last: [B, n]."""
    forth, back = inked.int(), inked.flip(1).int()
    return (forth.cummax(1).values & back.cummax(1).values.flip(1)).bool()


@torch.inference_mode()
def places(model: DMF, episode: Episode, turn: int = 0) -> dict[str, Tensor]:
    """Where a network looks for every query of an episode in the support of its own class, and where it might have.

    `LEARNED`, `GRID` and `RANDOM`, the last by the seed `turn`: (y, x) in pixels, [Q, 9, 2, h, w]. The episode has no
    leading E.
    """
    shots, x_q = model.embed_together(episode.support[None], episode.query[None])
    starts, offsets = (p[0] for p in own_points(model, mean_of_shots(shots), x_q, episode.query_labels[None]))
    angles = np.random.default_rng(turn).uniform(0, 2 * np.pi, offsets[:, :, 0].shape)
    sin, cos = (torch.from_numpy(f(angles)).to(offsets.dtype) for f in (np.sin, np.cos))
    y, x = offsets.unbind(2)
    turned = torch.stack([cos * y + sin * x, cos * x - sin * y], 2)
    found = {LEARNED: starts + offsets, GRID: starts, RANDOM: starts + turned}
    cells = Cells.of(model)
    return {name: cells.to_pixels(p) for name, p in found.items()}


def judge(
    where: Mapping[str, Tensor], images: ImageSet, episode: Episode, cells: Cells
) -> dict[tuple[str, str, str], float]:
    """The measured shares of one episode, in percent.

    Args:
        where: of `places`.
        cells: of the network.
        images: that the episode was drawn from; only the first shot of a class is looked at.

    Returns:
        by points, query positions (``"on the object"``, ``"off it"``) and what is hit: the object's ``"ink"``, its
        ``"box"``, or the ``"picture"``.
    """
    side = next(iter(where.values())).shape[-1]
    asked = cells_on_object(images.masks(episode.query_index.numpy()), side, cells)
    own = images.masks(episode.support_index[:, 0].numpy())
    labels = episode.query_labels
    targets = {"ink": own, "box": boxes(own), "picture": torch.ones_like(own)}
    found = {}
    for target, masks in targets.items():
        hits = {name: on_object(masks[labels], points).mean(1) for name, points in where.items()}
        hits[OTHER] = on_object(masks[(labels + 1) % len(own)], where[LEARNED]).mean(1)
        hits[CHANCE] = masks.float().mean((1, 2))[labels, None, None].expand(asked.shape)
        for name, values in hits.items():
            for position, chosen in (("on the object", asked), ("off it", ~asked)):
                found[name, position, target] = 100 * values[chosen].mean().item()
    return found


def pair(
    model: DMF, images: ImageSet, sampler: EpisodeSampler, number: int, query: int, cell: tuple[int, int] | None = None
) -> dict[str, Any]:
    """One query of episode `number` with the support of its own class, as `figures_3_and_4.sampled_pairs` draws it.

    Pictures that are rendered are shown in more pixels than the network reads; the coordinates are the network's.

    Args:
        cell: row and column of the query position; None for the cell that holds most of the object, for that in the
            middle of its box, or, of pictures without masks, for the one in the middle of the picture.
    """
    episode = sampler[number]
    where = places(model, episode)
    shot, asked = int(episode.support_index[episode.query_labels[query], 0]), int(episode.query_index[query])
    side, masked = where[GRID].shape[-1], images.packed_masks is not None
    find = middle_cell if has_boxes(images) else fullest_cell
    middle = find(images.masks(asked), side, Cells.of(model)) if masked else (side // 2, side // 2)
    i, j = cell or middle
    points, grid = (where[name][query, :, :, i, j] for name in (LEARNED, GRID))
    if masked:
        hits = on_object(images.masks([shot]), points[None, :, :, None, None])
        where_on = "in the object's box" if has_boxes(images) else "on the object"
        caption = f"{int((hits >= 0.5).sum())} of 9 points\n{where_on}"
    else:
        outside = ((points < -0.5) | (points > images.size - 0.5)).any(1).sum()
        caption = f"{int(outside)} of 9 points\noutside the picture"
    shown = {"query": sharp(images, asked), "support": sharp(images, shot), "points": points, "grid": grid}
    if has_boxes(images):
        shown["boxes"] = [images.masks(number) for number in (asked, shot)]
    name = plotting.readable(images.class_names[int(images.labels[asked])])
    return shown | {
        "side": images.size,
        "name": f"{name}, episode {number}, query {query}, cell ({i}, {j})",
        "caption": caption,
    }


def has_boxes(images: ImageSet) -> bool:
    """Whether the masks of pictures are the objects' boxes."""
    return images.provenance.details.get("masks") == BOXES


def judged(
    model: DMF, images: ImageSet, episodes: int, seed: int = 0, query: int = 15
) -> Iterator[dict[tuple[str, str, str], float]]:
    """`judge` of 5-way 1-shot episodes, one after another."""
    sampler = EpisodeSampler(images, 5, 1, query, seed, preprocessing=model.preprocessing)
    for i in range(episodes):
        episode = sampler[i]
        yield judge(places(model, episode, turn=i), images, episode, Cells.of(model))


def measure(
    model: DMF, images: ImageSet, episodes: int = 200, seed: int = 0, query: int = 15, title: str = ""
) -> list[dict[str, Any]]:
    """Play `episodes` 5-way 1-shot episodes of `images`, under a progress bar where there is a title.

    Returns:
        a row for every kind of points and of query positions: percent on the ink, the box and in the picture; how many
        of those in the picture are on ink or box, the mean over episodes, which "chance" is to be compared with where
        many lie outside; with the ink's difference from the grid and, of the learned points, from another's object,
        over the same episodes.
        "... ci95" are half widths of 95 % intervals.
    """
    played = list(tqdm(judged(model, images, episodes, seed, query), title, episodes, disable=not title))
    table = pd.DataFrame(played)
    rows = []
    for name, position in dict.fromkeys((name, position) for name, position, _ in played[0]):
        row: dict[str, Any] = {"points": name, "query position": position}
        measured = {target: table[name, position, target] for target in ("ink", "box", "picture")}
        for target in ("ink", "box"):
            share = 100 * measured[target] / measured["picture"].where(measured["picture"] > 0)
            measured[f"{target}, of those in the picture"] = share.dropna()  # an episode without any says nothing
        measured["minus grid"] = measured["ink"] - table[GRID, position, "ink"]
        if name == LEARNED:
            measured["minus another's"] = measured["ink"] - table[OTHER, position, "ink"]
        rows.append(row | intervals.row(measured))
    return rows


def table(rows: Sequence[Mapping[str, Any]], entries: Sequence[str] = ("ink", "minus grid")) -> pd.DataFrame:
    """Rows of `measure` as a table: points downwards, query positions across, cells of "27.4 ± 0.9"."""
    lines: dict[str, dict[tuple[str, str], str]] = {}
    for row in rows:
        for entry in entries:
            cell = "" if entry not in row else intervals.shown(row[entry], row[f"{entry} ci95"])
            lines.setdefault(row["points"], {})[row["query position"], entry] = cell
    return pd.DataFrame(lines).T


@one_thread()
def run(episodes: int = 200, seed: int = 0, out: Path = RESULTS) -> None:
    """Measure every network and write the result."""
    images = load_images("glyphs-mini", "test", size=40, per_class=200, progress=False)
    networks = {name: network.load() for name, network in NETWORKS.items()}
    first = {name: next(judged(model, images, 1, seed)) for name, model in networks.items()}
    content = {
        "episodes": episodes,
        "seed": seed,
        "images": images.digest,
        "weights": {name: network.weights for name, network in NETWORKS.items()},
        "episode 0": {name: round(found[LEARNED, "on the object", "ink"], 3) for name, found in first.items()},
        "networks": {name: measure(model, images, episodes, seed, title=name) for name, model in networks.items()},
    }
    write_result(out, __doc__, "dmf-lab figure 3", content)
