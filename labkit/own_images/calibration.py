"""What a score is worth: probabilities that hold, and "none of these" with a known rate of false refusals.

Both are fitted on episodes of validation classes, and measured on novel classes, on which nothing is fitted. To every
episode of N classes another class is drawn whose queries are the outsiders: no answer to them is right.

* A temperature T divides the scores before the softmax. It minimises the cross-entropy of the queries that belong.
* Likeness is the cosine between a query's feature map and the mean map of the class most like it. It tells outsiders
  better than the scores do, whose length depends on the picture: the results hold the AUROC of both. A query less like
  its class than nearly all validation queries were is refused.

Both move with the number of shots, since a mean of several maps is shorter and cleaner than one map; likeness moves
with the number of classes too, being a maximum over them. So they are fitted on a grid and interpolated, in 1/shots
and in the logarithm of the number of classes.

``dmf-lab calibrate quick`` fits and measures a shipped model and writes ``results/calibration.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from torch import Tensor

from labkit.common import checks, places
from labkit.data.imageset import ImageSet
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.features import compare, embed_pictures, preprocessing_of
from labkit.evaluation.play import Features, on_features
from labkit.evaluation.protocol import BROKEN
from labkit.methods.base import Method

RESULTS = places.RESULTS / "calibration.json"
REFUSE = 0.1  # false refusals among the queries that belong, unless asked otherwise
REFUSALS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # rates whose thresholds are kept
WAYS, SHOTS = (2, 5, 10), (1, 2, 3, 5, 10)
UNSEEN = ((3, 1), (7, 4), (5, (1, 2, 3, 4, 5)))  # ways and shots between those of the grid, measured only
QUERY, BINS = 5, 15
Shots = int | Sequence[int]  # of every class, or of each


@dataclass(frozen=True)
class Fitted:
    """What `fit_temperature` found for one number of classes and shots.

    Attributes:
        way, shot, episodes, seed: of the validation episodes.
        temperature: scores are divided by it.
        thresholds: of likeness, one for each rate of false refusals in `REFUSALS`.
        seen: `measure` on these same episodes; "ece_before" and "ece_after" are its calibration errors.
    """

    way: int
    shot: int
    episodes: int
    seed: int
    temperature: float
    thresholds: tuple[float, ...]
    seen: dict[str, Any]


@dataclass(frozen=True)
class Calibration:
    """Temperature and threshold for any number of classes and shots, from fits on a grid of both.

    Raises:
        ValueError: no fits, or a grid with a hole.
    """

    fits: tuple[Fitted, ...]

    def __post_init__(self) -> None:
        pairs = {(f.way, f.shot) for f in self.fits}
        ways, shots = ({p[k] for p in pairs} for k in (0, 1))
        if not pairs or len(pairs) != len(ways) * len(shots):
            raise ValueError(f"a calibration needs a fit for every way with every shot of a grid, got {sorted(pairs)}")

    def temperature(self, shots: Sequence[int]) -> float:
        """For classes with these shots, one number a class; beyond the grid, the value at its edge."""
        return self._between(shots, lambda fit: fit.temperature)

    def threshold(self, shots: Sequence[int], refuse: float = REFUSE) -> float:
        """Likeness below which a query is refused; `refuse` is the share of false refusals on validation classes.

        Raises:
            ValueError: a share for which no threshold was kept.
            TypeError: no number.
        """
        if not checked_share(refuse):
            return -np.inf
        return self._between(shots, lambda fit: float(np.interp(refuse, REFUSALS, fit.thresholds)))

    def _between(self, shots: Sequence[int], value: Callable[[Fitted], float]) -> float:
        place = -float(np.mean(1 / np.asarray(shots)))  # the noise of a mean falls as 1/shots
        ways = sorted({f.way for f in self.fits})
        rows = [sorted((f for f in self.fits if f.way == way), key=lambda f: f.shot) for way in ways]
        of_way = [np.interp(place, [-1 / f.shot for f in row], [value(f) for f in row]) for row in rows]
        return float(np.interp(np.log(len(shots)), np.log(ways), of_way))


def checked_share(refuse: float) -> float:
    """A share of false refusals: 0, or one for which thresholds are kept.

    Raises:
        ValueError: another one.
        TypeError: no number.
    """
    share = float("nan") if isinstance(refuse, float) and refuse != refuse else checks.finite("refuse", refuse)
    if share != 0 and not REFUSALS[0] <= share <= REFUSALS[-1]:
        raise ValueError(f"refuse must be 0 or from {REFUSALS[0]} to {REFUSALS[-1]}, got {refuse}")
    return share


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
    scores, alike, labels = [], [], []
    for i in range(episodes):
        episode = on_features([sampler.indices(i)], Features(features))
        found = compare(model, episode.support[0, :way], mask, episode.query[0])
        scores.append(found[0].double().cpu().numpy())
        alike.append(found[1].double().cpu().numpy())
        if not found[0].isfinite().all():
            raise FloatingPointError(f"scores are not finite in episode {i}: {BROKEN}")
        labels.append(episode.labels[0])
    return Played(np.concatenate(scores), np.concatenate(alike), np.concatenate(labels))


def best_temperature(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The T that minimises the cross-entropy of softmax(scores / T): [M, N] and [M]."""
    from scipy.optimize import minimize_scalar  # slow to import, as scipy.stats is, and `import labkit` should not be

    def cross_entropy(log_t: float) -> float:
        return -float(log_softmax(scores / np.exp(log_t), axis=1)[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-7, 7), method="bounded").x))


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
        for comparison, of the largest score; false_refusals of queries that belong, outsiders_refused; and how many
        queries there were of either kind.
    """
    from scipy.stats import mannwhitneyu

    way = played.scores.shape[1]
    own = played.labels < way
    scores, labels = played.scores[own], played.labels[own]
    before, after = (reliability(softmax(scores / t, axis=1), labels) for t in (1.0, temperature))
    inside, outside = played.likeness[own], played.likeness[~own]

    def area(of: NDArray[np.float64]) -> float:  # the chance that one who belongs is above an outsider
        u = mannwhitneyu(of[own], of[~own]).statistic
        return round(float(u) / (len(inside) * len(outside)), 4)

    return {
        "accuracy": round(float((scores.argmax(1) == labels).mean()), 4),
        "ece_before": round(calibration_error(before), 4),
        "ece_after": round(calibration_error(after), 4),
        "auroc": area(played.likeness),
        "auroc_of_scores": area(played.scores.max(1)),
        "false_refusals": round(float((inside < threshold).mean()), 4),
        "outsiders_refused": round(float((outside < threshold).mean()), 4),
        "queries": len(inside),
        "outsiders": len(outside),
    }


def fit_temperature(
    model: Method,
    validation_images: ImageSet,
    way: int = 5,
    shot: int = 1,
    episodes: int = 400,
    seed: int = 0,
    features: Tensor | None = None,
) -> Fitted:
    """Temperature and thresholds for one number of classes and shots; `Calibration((fit,))` can be used already.

    Args:
        validation_images: of classes that the model was not trained on, with more than `way` classes.
        way, shot, episodes, seed: of the episodes; one more class is drawn for the outsiders.
        features: [n, c, h, w] of all images, where they are known already.

    Raises:
        ValueError: images prepared otherwise, or more asked of them than they have.
    """
    checks.kind("model", model, Method, "a method of labkit, as labkit.load_model gives")
    checks.kind("validation_images", validation_images, ImageSet, "an ImageSet, as labkit.load_images gives")
    way, shot, episodes, seed = (
        checks.check_int(name, value, least)
        for name, value, least in (("way", way, 2), ("shot", shot, 1), ("episodes", episodes, 1), ("seed", seed, 0))
    )
    preprocessing_of(model).check(validation_images)
    features = embed_pictures(model, validation_images.pixels) if features is None else features
    played = play(model, validation_images, features, way, shot, episodes, seed)
    own = played.labels < way
    temperature = round(best_temperature(played.scores[own], played.labels[own]), 4)
    thresholds = tuple(round(float(v), 4) for v in np.quantile(played.likeness[own], REFUSALS))
    seen = measure(played, temperature, float(np.interp(REFUSE, REFUSALS, thresholds)))
    return Fitted(way, shot, episodes, seed, temperature, thresholds, seen)


def calibrate(
    model: Method,
    validation_images: ImageSet,
    ways: Sequence[int] = WAYS,
    shots: Sequence[int] = SHOTS,
    episodes: int = 400,
    seed: int = 0,
) -> Calibration:
    """`fit_temperature` for every number of classes and shots of a grid; every image is embedded once."""
    ways, shots = (
        sorted(
            {
                checks.check_int(f"a number in {name}", v)
                for v in checks.several(name, values, "a list of whole numbers")
            }
        )
        for name, values in (("ways", ways), ("shots", shots))
    )
    checks.kind("model", model, Method, "a method of labkit, as labkit.load_model gives")
    checks.kind("validation_images", validation_images, ImageSet, "an ImageSet, as labkit.load_images gives")
    features = embed_pictures(model, validation_images.pixels)
    return Calibration(
        tuple(
            fit_temperature(model, validation_images, way, shot, episodes, seed, features)
            for way in ways
            for shot in shots
        )
    )


def shipped_calibration(model: Method) -> Calibration | None:
    """The committed calibration of a shipped model, known by what it computes and not by a name; None for others.

    A name would still be right after the weights were trained further, and the numbers would not.
    """
    if model.preprocessing is None or not RESULTS.is_file():
        return None
    sign = fingerprint(model)
    for entry in json.loads(RESULTS.read_text())["models"].values():
        if len(entry["fingerprint"]) == len(sign) and np.allclose(entry["fingerprint"], sign, rtol=2e-3, atol=2e-3):
            return Calibration(tuple(Fitted(**f | {"thresholds": tuple(f["thresholds"])}) for f in entry["fits"]))
    return None


def fingerprint(model: Method) -> list[float]:
    """Scores of three queries against three classes of one picture each; the pictures are plain waves."""
    size = preprocessing_of(model).size
    y, x, k, channel = np.ogrid[:size, :size, 1:7, :3]
    waves = 127.5 + 127.5 * np.sin((k * x + (7 - k) * y) * (6 / size) + 2 * channel)
    pixels = np.ascontiguousarray(waves.transpose(2, 0, 1, 3).astype(np.uint8))
    support, query = embed_pictures(model, pixels).split(3)
    scores, _ = compare(model, support[:, None], torch.ones(3, 1, dtype=torch.bool, device=support.device), query)
    return [round(float(v), 5) for v in scores.flatten()]
