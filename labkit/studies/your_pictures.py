"""What a head of one's own looks at: its score maps, and where it samples the support, if it has such."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from labkit import plotting
from labkit.data.glyphs.sharp import sharp
from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.features import eval_mode
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.cells import Cells
from labkit.studies.figure3_sampling import GRID, LEARNED, places


def score_maps(model: Method, support: Tensor, query: Tensor) -> Tensor | None:
    """Scores at every position, [E, Q, N, h, w], from features as `Method.score` takes them.

    They are DMF's, or those of a module with ``score_maps(support, query)``; None where a head has none.

    Raises:
        ValueError: maps of another shape.
    """
    if isinstance(model, DMF):
        x_supp = mean_of_shots(support)
        filters = None if model.rule.name == "none" else model.filters(x_supp, query)
        return model.score_maps(x_supp, query, filters)
    own = getattr(getattr(model, "head", model), "score_maps", None)
    if own is None:
        return None
    found: Tensor = own(support, query)
    wanted = [*query.shape[:2], support.shape[1]]
    if found.ndim != 5 or list(found.shape[:3]) != wanted:
        raise ValueError(f"score_maps must give [E, Q, N, h, w] = {[*wanted, 'h', 'w']}, got {list(found.shape)}")
    return found


def pictures(model: Method, images: ImageSet, episodes: Sequence[int] = (0, 1, 2), seed: int = 0) -> Figure | None:
    """The first query of some episodes: where its own class's scores come from, and those of the best other class.

    Of a head that samples, the nine points read for the position of the highest score lie on the support (Figure 3);
    beside it are the score maps of the query (as Figure 4), on one scale a row. None where a head has no maps.

    Args:
        model: of pictures, as `labkit.training.heads.on_pictures` gives.
        images: of classes that it was not trained on.
        episodes, seed: 5-way 1-shot episodes, fixed before anything is drawn.
    """
    sampler = EpisodeSampler(images, 5, 1, 1, seed, preprocessing=model.preprocessing)
    lines = [_line(model, images, sampler, number) for number in episodes]
    if any(line is None for line in lines):
        return None
    figure, axes = plt.subplots(len(lines), 4, figsize=(8, 2.05 * len(lines)), squeeze=False)
    for row, line in zip(axes, lines, strict=True):
        assert line is not None
        position, points, grid = (line[name] for name in ("position", "points", "grid"))
        plotting.show_image(row[0], line["support"], "its support", side=images.size)
        plotting.show_image(row[1], line["query"], "query", side=images.size)
        if points is not None:
            plotting.show_points(row[0], images.size, points, grid)
            row[0].set_title("its support, points read", pad=9)  # above points that lie on the edge
        row[1].plot(*position[::-1], "o", color=plotting.GREEN, markersize=7, markeredgecolor="white")
        low, high = (f([line["own"], line["other"]]) for f in (np.min, np.max))
        for ax, name in ((row[2], "own"), (row[3], "other")):
            shown = ax.imshow(line[name], cmap=plotting.HEAT, vmin=low, vmax=high)
            ax.set(xticks=[], yticks=[], title={"own": "scores of its class", "other": "best other class"}[name])
            ax.set_xlabel(f"mean {line['means'][name]:.2f}")
        figure.colorbar(shown, ax=row[3], shrink=0.8)
        right = line["means"]["own"] > line["means"]["other"]
        row[1].set_xlabel(f"classified {'right' if right else 'wrong'}")
        row[0].set_ylabel(f"episode {line['number']}", labelpad=16)  # beside points that lie on the edge
    if any(line is not None and line["points"] is not None for line in lines):
        figure.supxlabel(plotting.MARKED, fontsize=plotting.SMALL)
    return figure


def _line(model: Method, images: ImageSet, sampler: EpisodeSampler, number: int) -> dict[str, Any] | None:
    episode = sampler[number]
    with eval_mode(model):
        maps = score_maps(model, *model.embed_together(episode.support[None], episode.query[None]))
    if maps is None:
        return None
    own = int(episode.query_labels[0])
    of_query = maps[0, 0].float().cpu()
    means = of_query.mean((-2, -1)).tolist()
    if isinstance(model, DMF) and model.choices.border:
        of_query = of_query[:, 1:-1, 1:-1]  # cells of the picture; the border of zeros counts in the mean alone
    other = max((n for n in range(len(of_query)) if n != own), key=lambda n: float(means[n]))
    i, j = divmod(int(of_query[own].argmax()), of_query.shape[-1])
    points = grid = None
    position = tuple(Cells.of(model).to_pixels(np.array([i, j], dtype=float)).tolist())
    if isinstance(model, DMF) and model.choices.sampling and model.rule.name != "none":
        where = places(model, episode)
        points, grid = (where[name][0, :, :, i, j].cpu().numpy() for name in (LEARNED, GRID))
    return {
        "number": number,
        "support": sharp(images, int(episode.support_index[own, 0])),
        "query": sharp(images, int(episode.query_index[0])),
        "own": of_query[own].numpy(),
        "other": of_query[other].numpy(),
        "means": {"own": means[own], "other": means[other]},
        "position": position,
        "points": points,
        "grid": grid,
    }
