"""The record of calibrated models: each fitted on validation classes and measured on novel ones, under its own name."""

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from labkit.data import load_images
from labkit.evaluation.features import embed_pictures
from labkit.models.checkpoints import WEIGHTS, load_model, read_header, resolve
from labkit.own_images.calibration import (
    REFUSALS,
    SHOTS,
    UNSEEN,
    WAYS,
    Calibration,
    calibrate,
    fingerprint,
    same_fingerprint,
)
from labkit.own_images.open_episodes import Shots, measure, play, reliability
from labkit.training.shipping import check_pictures

MEASURED_SHOTS = (1, 3, 5)


def fit_and_measure(name: str, episodes: int, seed: int, data_root: Path | None = None) -> dict[str, Any]:
    """Fit a model on validation classes and measure it on novel ones, in JSON types.

    Raises:
        ValueError: as `about_of`.
    """
    about, model = about_of(name), load_model(name)
    options = {"size": about["size"], "root": data_root, "progress": False}
    options |= {"per_class": about["per_class"]} if about["per_class"] else {}
    images = {split: load_images(about["dataset"], split, **options) for split in ("val", "test")}
    fitted = calibrate(model, images["val"], episodes=episodes, seed=seed)
    only = Calibration(tuple(f for f in fitted.fits if (f.way, f.shot) == (5, 1)), fitted.refuse)
    features = embed_pictures(model, images["test"].pixels)
    rows, bins = [], {}
    cells: list[tuple[int, Shots]] = [(way, shot) for way in WAYS for shot in sorted({*SHOTS, *MEASURED_SHOTS})]
    for way, shot in [*cells, *UNSEEN]:
        played = play(model, images["test"], features, way, shot, episodes, seed)
        shots = [shot] * way if isinstance(shot, int) else list(shot)
        found = measure(played, fitted.temperature(shots), fitted.threshold(shots))
        single = measure(played, only.temperature(shots), only.threshold(shots))
        kept = ("ece_after", "false_refusals", "outsiders_refused")
        rows.append({"way": way, "shot": shot} | found | {f"single_{k}": single[k] for k in kept})
        print(rows[-1])
        if (way, shot) in ((5, 1), (5, 5)):
            own = played.labels < way
            for when, t in (("before", 1.0), ("after", fitted.temperature(shots))):
                found_bins = reliability(softmax(played.scores[own] / t, axis=1), played.labels[own])
                bins[f"{way}-way {shot}-shot, {when}"] = np.round(found_bins, 4).tolist()
    fits = [asdict(fit) for fit in fitted.fits]
    kept_of = {"fingerprint": fingerprint(model), "refuse": fitted.refuse, "fits": fits}
    return kept_of | {"novel": rows, "novel_reliability": bins}


def about_of(name: str) -> dict[str, Any]:
    """The experiment that a model's file tells of, on whose pictures it is fitted.

    Raises:
        ValueError: it does not say which pictures it was trained on, or was trained on others than its setting names.
    """
    kept = read_header(name)["about"]
    about: dict[str, Any] | None = kept.get("experiment")
    if about is None:
        raise ValueError(
            f"{name} does not say which data set it was trained on: it must come from a training of labkit"
        )
    check_pictures(name, kept)
    return about


def free_name(name: str, file: str, found: dict[str, Any], models: dict[str, Any]) -> str:
    """A model's name in a record: its own, or with its folder, or numbered, where that is another model's already.

    Models are told apart by what they compute (`fingerprint`), since every training leaves a ``best.safetensors``. What
    is shipped keeps its name: there the new weights take the place of the old ones.
    """
    place = resolve(file).resolve()
    if place.parent == WEIGHTS.resolve():
        return name
    longer = f"{place.parent.name}/{place.stem}"
    names = itertools.chain((name, longer), (f"{longer} {number}" for number in itertools.count(2)))
    sign = found["fingerprint"]
    return next(n for n in names if n not in models or same_fingerprint(models[n]["fingerprint"], sign))


def with_model(record: dict[str, Any], name: str, of: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """A record with a model's part in it, new or in place of an older one; `made` is how a new record was made."""
    return {
        "what": "Temperature and likeness thresholds of shipped models, fitted on validation classes (`fits`), and "
        "what they do on novel classes, on which nothing is fitted (`novel`). An episode has `way` classes, 5 queries "
        "of each, and 5 of a class that is not among them. `refuse` is the share of the queries that is refused by "
        "default. `single_`: the 5-way 1-shot fit used for all. `novel_reliability`: share of the queries, mean "
        "probability of the answer, share of right answers.",
        **{key: value for key, value in (record or made).items() if key != "what"},
        "refusals": REFUSALS,
        "models": record.get("models", {}) | {name: of},
    }
