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

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor

from labkit.common import checks, places
from labkit.data.imageset import ImageSet
from labkit.evaluation.features import compare, embed_pictures, preprocessing_of
from labkit.methods.base import Method
from labkit.own_images.open_episodes import measure, play

RESULTS = places.RESULTS / "calibration.json"
REFUSE = 0.1  # false refusals among the queries that belong, where a calibration names no share of its own
RIGHT_REFUSED = 0.02  # of the right answers on validation classes, how many "none of these" may cost by default
REFUSALS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # rates whose thresholds are kept
WAYS, SHOTS = (2, 5, 10), (1, 2, 3, 5, 10)
UNSEEN = ((3, 1), (7, 4), (5, (1, 2, 3, 4, 5)))  # ways and shots between those of the grid, measured only


@dataclass(frozen=True)
class Fitted:
    """What `fit_temperature` found for one number of classes and shots.

    Attributes:
        way, shot, episodes, seed: of the validation episodes.
        temperature: scores are divided by it.
        thresholds: of likeness, one for each rate of false refusals in `REFUSALS`.
        right_refused: share of the right answers that each of them refuses; empty where it was not measured.
        seen: `measure` on these same episodes; "ece_before" and "ece_after" are its calibration errors.
    """

    way: int
    shot: int
    episodes: int
    seed: int
    temperature: float
    thresholds: tuple[float, ...]
    seen: dict[str, Any]
    right_refused: tuple[float, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """Temperature and threshold for any number of classes and shots, from fits on a grid of both.

    Attributes:
        fits: for every way with every shot of a grid.
        refuse: the share of false refusals that is taken where none is asked for (`chosen_refusal`).

    Raises:
        ValueError: no fits, or a grid with a hole.
    """

    fits: tuple[Fitted, ...]
    refuse: float = REFUSE

    def __post_init__(self) -> None:
        pairs = {(f.way, f.shot) for f in self.fits}
        ways, shots = ({p[k] for p in pairs} for k in (0, 1))
        if not pairs or len(pairs) != len(ways) * len(shots):
            raise ValueError(f"a calibration needs a fit for every way with every shot of a grid, got {sorted(pairs)}")

    def temperature(self, shots: Sequence[int]) -> float:
        """For classes with these shots, one number a class; beyond the grid, the value at its edge."""
        return self._between(shots, lambda fit: fit.temperature)

    def threshold(self, shots: Sequence[int], refuse: float | None = None) -> float:
        """Likeness below which a query is refused; `refuse` is the share of false refusals on validation classes.

        None takes the calibration's own.

        Raises:
            ValueError: a share for which no threshold was kept.
            TypeError: no number.
        """
        share = checked_share(self.refuse if refuse is None else refuse)
        if not share:
            return -np.inf
        return self._between(shots, lambda fit: float(np.interp(share, REFUSALS, fit.thresholds)))

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


def best_temperature(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The T that minimises the cross-entropy of softmax(scores / T): [M, N] and [M]."""
    from scipy.optimize import minimize_scalar  # slow to import, as scipy.stats is, and `import labkit` should not be

    def cross_entropy(log_t: float) -> float:
        return -float(log_softmax(scores / np.exp(log_t), axis=1)[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-7, 7), method="bounded").x))


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
    right = played.likeness[own][played.scores[own].argmax(1) == played.labels[own]]
    refused = tuple(round(float((right < t).mean()), 4) if len(right) else 0.0 for t in thresholds)
    return Fitted(way, shot, episodes, seed, temperature, thresholds, seen, refused)


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
    fits = tuple(
        fit_temperature(model, validation_images, way, shot, episodes, seed, features) for way in ways for shot in shots
    )
    return Calibration(fits, chosen_refusal(fits))


def chosen_refusal(fits: Sequence[Fitted], most: float = RIGHT_REFUSED) -> float:
    """The largest share of `REFUSALS` that costs at most a share `most` of the right answers on validation classes.

    What is refused first is what is least like any class, and of that more is wrong than right: so the share of all
    queries that may be refused is larger than `most`. It is chosen over the mean of all fits, as one default serves
    them all; 0, which refuses nothing, where even the smallest costs more.
    """
    costs = np.mean([fit.right_refused for fit in fits], axis=0)
    return max((share for share, cost in zip(REFUSALS, costs, strict=True) if cost <= most), default=0.0)


def shipped_calibration(model: Method) -> Calibration | None:
    """The committed calibration of a shipped model, known by what it computes and not by a name; None for others.

    A name would still be right after the weights were trained further, and the numbers would not.
    """
    if model.preprocessing is None or not RESULTS.is_file():
        return None
    sign = fingerprint(model)
    for entry in json.loads(RESULTS.read_text(encoding="utf-8"))["models"].values():
        if same_fingerprint(entry["fingerprint"], sign):
            lists = ("thresholds", "right_refused")
            fits = (Fitted(**f | {k: tuple(f[k]) for k in lists if k in f}) for f in entry["fits"])
            return Calibration(tuple(fits), entry.get("refuse", REFUSE))
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


def same_fingerprint(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two fingerprints are of one model, up to the rounding of its weights and of another machine."""
    return len(one) == len(other) and np.allclose(one, other, rtol=2e-3, atol=2e-3)
