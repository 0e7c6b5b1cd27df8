"""Open episodes: N classes, and pictures of one more that belong to none of them; played on features, and measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from labkit.data.imageset import ImageSet
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.features import compare, embed_pictures
from labkit.evaluation.play import Features, on_features
from labkit.evaluation.protocol import why_not_finite
from labkit.methods.base import Method

QUERY, BINS = 5, 15
Shots = int | Sequence[int]  # of every class, or of each


@dataclass(frozen=True)
class Played:
    """Open episodes, joined: scores [M, N], likeness [M], labels [M] with N for outsiders."""

    scores: NDArray[np.float64]
    likeness: NDArray[np.float64]
    labels: NDArray[np.int64]


def play(
    model: Method, images: ImageSet, features: Tensor, way: int, shot: Shots, episodes: int, seed: int = 0
) -> Played:
    """Episodes of `way` classes and an outsider, on features [n, c, h, w] of all images."""
    shots = torch.tensor([shot] * way if isinstance(shot, int) else list(shot))
    most = int(shots.max())
    mask = (torch.arange(most) < shots[:, None]).to(features.device)
    sampler = EpisodeSampler(images, way + 1, most, QUERY, seed)
    of_mirrored = None
    if model.shows_mirrored(most):
        of_mirrored = Features(embed_pictures(model, images.pixels, mirrored=True))
    scores, alike, labels = [], [], []
    for i in range(episodes):
        episode = on_features([sampler.indices(i)], Features(features), mirrored=of_mirrored)
        found = compare(model, episode.support[0, :way], mask, episode.query[0])
        scores.append(found[0].double().cpu().numpy())
        alike.append(found[1].double().cpu().numpy())
        if not found[0].isfinite().all():
            raise FloatingPointError(f"scores are not finite in episode {i}: {why_not_finite(model)}")
        labels.append(episode.labels[0])
    return Played(np.concatenate(scores), np.concatenate(alike), np.concatenate(labels))


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> list[tuple[float, float, float]]:
    """Share of the queries, mean confidence and accuracy, for each of `BINS` equal bins of confidence with any."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    at = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins = [at == b for b in range(BINS)]
    return [(float(b.mean()), float(sure[b].mean()), float(right[b].mean())) for b in bins if b.any()]


def calibration_error(bins: Sequence[tuple[float, float, float]]) -> float:
    """Expected calibration error (0 to 1) of `reliability`."""
    return sum(share * abs(sure - right) for share, sure, right in bins)


def measure(played: Played, temperature: float, threshold: float) -> dict[str, Any]:
    """What a temperature and a threshold do.

    Returns:
        shares (0 to 1): accuracy, ece_before (T = 1) and ece_after of the queries that belong; auroc of likeness and,
        for comparison, of the largest score; false_refusals of queries that belong, right_refused of those that were
        answered rightly, outsiders_refused; and how many queries there were of either kind.
    """
    from scipy.stats import mannwhitneyu

    way = played.scores.shape[1]
    own = played.labels < way
    scores, labels = played.scores[own], played.labels[own]
    before, after = (reliability(softmax(scores / t, axis=1), labels) for t in (1.0, temperature))
    inside, outside = played.likeness[own], played.likeness[~own]
    right = scores.argmax(1) == labels

    def area(of: NDArray[np.float64]) -> float:  # the chance that one who belongs is above an outsider
        u = mannwhitneyu(of[own], of[~own]).statistic
        return round(float(u) / (len(inside) * len(outside)), 4)

    return {
        "accuracy": round(float(right.mean()), 4),
        "ece_before": round(calibration_error(before), 4),
        "ece_after": round(calibration_error(after), 4),
        "auroc": area(played.likeness),
        "auroc_of_scores": area(played.scores.max(1)),
        "false_refusals": round(float((inside < threshold).mean()), 4),
        "right_refused": round(float((inside[right] < threshold).mean()), 4) if right.any() else 0.0,
        "outsiders_refused": round(float((outside < threshold).mean()), 4),
        "queries": len(inside),
        "outsiders": len(outside),
    }
