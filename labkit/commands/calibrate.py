"""Fit the probabilities of shipped models and "none of these" on validation classes; measure them on novel ones.

What is fitted is kept in the lab's results, where `labkit.classify` finds it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from labkit.common.files import write_json
from labkit.common.versions import versions
from labkit.data import load_images
from labkit.evaluation.features import embed_pictures
from labkit.models.checkpoints import load_model, read_header
from labkit.own_images.calibration import (
    REFUSALS,
    REFUSE,
    RESULTS,
    SHOTS,
    UNSEEN,
    WAYS,
    Calibration,
    Shots,
    calibrate,
    fingerprint,
    measure,
    play,
    reliability,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``dmf-lab calibrate`` takes."""
    parser.add_argument("names", nargs="+", help="of shipped models")
    parser.add_argument("--data-root", type=Path, help="folder of the pictures, for a model of photographs")
    parser.add_argument("--episodes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)


def main(asked: argparse.Namespace) -> int:
    """Fit, measure and add the models to `RESULTS`; what is there of other models stays."""
    before = json.loads(RESULTS.read_text())["models"] if RESULTS.is_file() else {}
    found = {
        "what": "Temperature and likeness thresholds of shipped models, fitted on validation classes (`fits`), and "
        "what they do on novel classes, on which nothing is fitted (`novel`). An episode has `way` classes, 5 queries "
        "of each, and 5 of a class that is not among them. `single_`: the 5-way 1-shot fit used for all. "
        "`novel_reliability`: share of the queries, mean probability of the answer, share of right answers.",
        "command": f"dmf-lab calibrate {' '.join(asked.names)} --episodes {asked.episodes} --seed {asked.seed}",
        "date": f"{date.today():%Y-%m-%d}",
        "versions": versions(),
        "episodes": asked.episodes,
        "seed": asked.seed,
        "refuse": REFUSE,
        "refusals": REFUSALS,
        "models": before | {name: report(name, asked.episodes, asked.seed, asked.data_root) for name in asked.names},
    }
    write_json(RESULTS, found)
    return 0


def report(name: str, episodes: int, seed: int, data_root: Path | None = None) -> dict[str, Any]:
    """Fit a shipped model on validation classes and measure it on novel ones, in JSON types."""
    model = load_model(name)
    about = read_header(name)["about"]["experiment"]
    options = {"size": about["size"], "root": data_root, "progress": False}
    options |= {"per_class": about["per_class"]} if about["per_class"] else {}
    images = {split: load_images(about["dataset"], split, **options) for split in ("val", "test")}
    fitted = calibrate(model, images["val"], episodes=episodes, seed=seed)
    only = Calibration(tuple(f for f in fitted.fits if (f.way, f.shot) == (5, 1)))
    features = embed_pictures(model, images["test"].pixels)
    rows, bins = [], {}
    cells: list[tuple[int, Shots]] = [(way, shot) for way in WAYS for shot in SHOTS]
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
    return {"fingerprint": fingerprint(model), "fits": fits, "novel": rows, "novel_reliability": bins}
