"""Do the sampled points of Figure 3 follow the support picture? ``dmf-lab figure 3 --dataset NAME`` measures it.

Photographs have no object masks. What can be measured without: how far the offsets lead, how many points fall outside
the map, how far another support picture of another class, or of the same class, moves a point, how far another query
picture does, and whether the points go along when the support picture is shifted by two feature cells (1: as far as the
picture, 0: they stay). All over the points of a query with the support of its own class, in pixels of the picture, in
5-way 1-shot episodes of novel classes. Where the objects are known, by boxes around them (tinyimagenet) or by masks,
`figure3_sampling` measures too how many points lie on the object.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation import chosen, intervals, provenance
from labkit.evaluation.features import embed_pictures
from labkit.studies import figure3_sampling, figures_3_and_4
from labkit.studies.displacement.shifted import shifted
from labkit.sweeps.kept import write_result

SHIFT_CELLS = 2
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # (y, x)
ENTRIES = {
    "offset": "length of an offset, px",
    "outside": "points outside the map, %",
    "other class": "moved by a support of another class, px",
    "same class": "moved by another support of the same class, px",
    "query": "moved by another query picture, px",
    "follows": "goes along with the support (1: wholly)",
}


def judge(
    points: Tensor, offsets: Tensor, labels: Tensor, others: Tensor, after: Sequence[Tensor], stride: float
) -> dict[str, float]:
    """The measurements of one episode.

    Args:
        points: where the network reads, (y, x) in feature cells [Q, N, 9, 2, h, w].
        offsets: [Q, N, 9, 2, h, w], of which `points` are the ends.
        labels: [Q], which of the N classes each query belongs to.
        others: the points with another picture of each class as the support, [Q, N, 9, 2, h, w].
        after: for each of `DIRECTIONS`, the points with the support pictures shifted by `SHIFT_CELLS`.
        stride: of the network, `Method.stride`.

    Returns:
        an entry for each of `ENTRIES`.
    """
    each, (h, w) = torch.arange(len(labels)), points.shape[-2:]
    own = points[each, labels]
    last = torch.tensor([h - 0.5, w - 0.5]).view(2, 1, 1)
    away = [own - points[each, (labels + k) % points.shape[1]] for k in range(1, points.shape[1])]
    turned = points.roll(1, 0)[each, labels]  # the same support, another query
    along = [
        ((moved[each, labels] - own) * torch.tensor(to).view(2, 1, 1)).sum(2).mean() / SHIFT_CELLS
        for to, moved in zip(DIRECTIONS, after, strict=True)
    ]
    found = {
        "offset": stride * offsets[each, labels].norm(dim=2).mean(),
        "outside": 100 * ((own < -0.5) | (own > last)).any(2).float().mean(),
        "other class": stride * torch.stack(away).norm(dim=3).mean(),
        "same class": stride * (own - others[each, labels]).norm(dim=2).mean(),
        "query": stride * (own - turned).norm(dim=2).mean(),
        "follows": torch.stack(along).mean(),
    }
    return {name: float(value) for name, value in found.items()}


def judged(model: DMF, images: ImageSet, episodes: int, seed: int = 0, query: int = 15) -> Iterator[dict[str, float]]:
    """`judge` of 5-way 1-shot episodes, one after another.

    The other picture of a class is one more of its pictures, drawn with the episode and asked about by nobody.
    """
    sampler = EpisodeSampler(images, 5, 2, query, seed)  # two shots: the support, and another picture of its class
    px = round(SHIFT_CELLS * model.stride)
    for i in range(episodes):
        _, support, asked, labels = sampler.indices(i)
        first, other = (images.pixels[support[:, k]] for k in (0, 1))
        moved = [shifted(first, px * y, px * x) for y, x in DIRECTIONS]
        x_q = embed_pictures(model, images.pixels[asked])[None]
        found = []
        with torch.inference_mode():
            for pictures in (first, other, *moved):
                x_supp = embed_pictures(model, pictures)[None]
                offsets = model.offsets(x_supp, x_q).expand(1, len(asked), len(first), -1, -1, -1, -1)
                found.append(((model.starts(x_supp, x_q) + offsets)[0], offsets[0]))
        (points, offsets), (others, _), *after = found
        yield judge(points, offsets, torch.from_numpy(labels), others, [p for p, _ in after], model.stride)


def measure(
    models: Mapping[str, DMF], images: ImageSet, episodes: int = 200, seed: int = 0, query: int = 15, title: str = ""
) -> list[dict[str, Any]]:
    """A row a network: means over episodes with their 95 % intervals, under a progress bar if there is a title."""
    rows: list[dict[str, Any]] = []
    for name, model in models.items():
        bar = tqdm(judged(model, images, episodes, seed, query), f"{title} {name}", episodes, disable=not title)
        rows.append({"network": name} | intervals.row(pd.DataFrame(list(bar))))
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of `measure` as a table: what is measured downwards, networks across, cells of "27.4 ± 0.9"."""
    digits = {"follows": 3}
    cells = {
        row["network"]: [intervals.shown(row[e], row[f"{e} ci95"], digits.get(e, 1)) for e in ENTRIES] for row in rows
    }
    return pd.DataFrame(cells, index=list(ENTRIES.values()))


def sentences(row: Mapping[str, Any], images: ImageSet) -> str:
    """What the numbers of one network say, in words that follow from them."""
    support, query, offset = (row[name] for name in ("other class", "query", "offset"))
    share = 100 * support / offset if offset else 0
    lines = [
        f"{row['network']} on {images.provenance.dataset}: an offset is {offset:.0f} px long, in pictures of "
        f"{images.size} px; {row['outside']:.0f} % of the points lie outside the map.",
        f"A support of another class moves a point by {support:.1f} px, {share:.0f} % of the length of an offset; "
        f"another picture of the same class by {row['same class']:.1f} px; another query by {query:.1f} px.",
    ]
    follows, half = row["follows"], row["follows ci95"]
    if abs(follows) <= max(half, 0.02):
        lines.append("The points do not go along when the support picture is shifted.")
    else:
        lines.append(f"When the support picture is shifted, the points go along by {100 * follows:.0f} % of the way.")
    return "\n".join(lines)


def drawn_pairs(model: DMF, images: ImageSet, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """Figure 3 with pairs that were fixed before they were drawn, and which these are.

    Chosen: the first query of episodes 0, 1 and 2, at the cell that its object fills most, in the middle of its box,
    or in the middle of a picture without either. Random: episode, query and cell of seed 2021.
    """
    sampler = EpisodeSampler(images, way=5, shot=1, query=15, seed=seed, preprocessing=model.preprocessing)
    side = figure3_sampling.places(model, sampler[0])[figure3_sampling.GRID].shape[-1]
    first = [figure3_sampling.pair(model, images, sampler, *which) for which in figure3_sampling.CHOSEN]
    draws = figure3_sampling.random_draws(3, (200, 75, side, side))
    random = [figure3_sampling.pair(model, images, sampler, i, q, (y, x)) for i, q, y, x in draws]
    figure = figures_3_and_4.sampled_pairs([first, random], ["chosen", "random"])
    return figure, {"seed": seed, "chosen": figure3_sampling.CHOSEN, "random": draws}


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
    """Draw Figure 3 on a data set and measure the networks given, and the first of them untrained; write both.

    Args:
        dataset, data_root: see `labkit.load_images`; the novel classes are used.
        weights: names or files of DMF networks; None for what is shipped. The first is drawn.
        out: JSON; by default among the lab's results.
        figures: folder of the figure.

    Raises:
        ValueError: the first network is no DMF.
    """
    plotting.use_style()
    own, models, images = chosen.opened(weights, dataset, data_root)
    first = next(iter(models.values()))
    if not isinstance(first, DMF):
        raise ValueError(f"Figure 3 shows where a DMF network looks, and {own[0]} is a {type(first).__name__}")
    about = provenance.about(own, models, images) | {"episodes": episodes, "seed": seed}
    measured = {name: model for name, model in models.items() if isinstance(model, DMF) and model.rule.name != "none"}
    measured |= {"untrained": chosen.untrained(first)}
    rows = measure(measured, images, episodes, seed, title="Figure 3,")
    found: dict[str, Any] = {"rows": rows}
    if images.packed_masks is not None:
        found["objects"] = {
            name: figure3_sampling.measure(model, images, episodes, seed, title=f"objects, {name}")
            for name, model in measured.items()
        }
    name = chosen.figure_name("figure3", dataset, own)
    command = provenance.figure_command("3", dataset, own, episodes=episodes, seed=seed)
    write_result(out or RESULTS / f"{name}.json", __doc__, command, about | found)
    figure, pairs = drawn_pairs(first, images, seed)
    plotting.save_in(figure, figures, name, command=command, **about, pairs=pairs, rows=rows)
    plt.close(figure)
    print(table(rows).to_string())
    if "objects" in found:
        drawn = figures_3_and_4.shares(found["objects"])
        plotting.save_in(drawn, figures, f"{name}_measured", command=command, **about, objects=found["objects"])
        plt.close(drawn)
    for name, of_objects in found.get("objects", {}).items():
        print(f"{name}: points on the support's object, %")
        print(figure3_sampling.table(of_objects).to_string())
