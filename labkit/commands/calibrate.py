"""Fit the probabilities of shipped models and "none of these" on validation classes; measure them on novel ones.

What is fitted is kept in the lab's results, where `labkit.classify` finds it: temperatures, thresholds, and the share
of pictures that is refused by default, the largest that refuses right answers rarely on validation classes. At the end
it is printed what that does on novel classes at 1, 3 and 5 pictures a class.

dmf-lab calibrate mini --data-root /data/x
"""

import argparse
import itertools
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from labkit.common.checks import check_int
from labkit.common.files import read_json, write_json
from labkit.common.versions import versions
from labkit.data import load_images
from labkit.evaluation.chosen import names_of
from labkit.evaluation.features import embed_pictures
from labkit.models.checkpoints import WEIGHTS, load_model, read_header, resolve
from labkit.own_images.calibration import (
    REFUSALS,
    RESULTS,
    SHOTS,
    UNSEEN,
    WAYS,
    Calibration,
    calibrate,
    fingerprint,
    same_fingerprint,
)
from labkit.own_images.open_episodes import Shots, measure, play, reliability

MEASURED_SHOTS = (1, 3, 5)
ROOT_OF_ANY = "ROOT"  # a record does not name where pictures lie on a machine


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", help="of shipped models, or files of one's own, with --out")
    parser.add_argument("--data-root", type=Path, help="folder of the pictures, for a model of photographs")
    parser.add_argument("--episodes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="of the record; the lab's own unless given")


def main(asked: argparse.Namespace) -> int:
    """Fit, measure and add the models to the record; what is there of other models stays."""
    check_int("episodes", asked.episodes)
    check_int("seed", asked.seed, least=0)
    anew = "put an undamaged copy there, or delete it and fit all of its models again"
    before = read_json(asked.out, anew) if asked.out.is_file() else {}
    root = f" --data-root {ROOT_OF_ANY}" if asked.data_root else ""
    names = " ".join(Path(name).stem for name in asked.names)
    made = {
        "command": f"dmf-lab calibrate {names}{root} --episodes {asked.episodes} --seed {asked.seed}",
        "date": f"{date.today():%Y-%m-%d}",
        "versions": versions(),
    }
    for name in asked.names:  # said now, and not when the ones before it are fitted
        about_of(name)
    for name, file in zip(names_of(asked.names), asked.names, strict=True):
        found = report(file, asked.episodes, asked.seed, asked.data_root) | made
        free = free_name(name, file, found, before.get("models", {}))
        if free != name:
            print(f"{asked.out} holds another model as {name!r}: this one is kept as {free!r}")
        before = keep(asked, before, made, free, found)
    return 0


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


def keep(
    asked: argparse.Namespace, before: dict[str, Any], made: dict[str, Any], name: str, of: dict[str, Any]
) -> dict[str, Any]:
    """Write a model's part into the record, print it, and return the record."""
    found = {
        "what": "Temperature and likeness thresholds of shipped models, fitted on validation classes (`fits`), and "
        "what they do on novel classes, on which nothing is fitted (`novel`). An episode has `way` classes, 5 queries "
        "of each, and 5 of a class that is not among them. `refuse` is the share of the queries that is refused by "
        "default. `single_`: the 5-way 1-shot fit used for all. `novel_reliability`: share of the queries, mean "
        "probability of the answer, share of right answers.",
        **(made | {"episodes": asked.episodes, "seed": asked.seed} if not before else {}),
        **{name: value for name, value in before.items() if name not in ("what", "models", "refusals")},
        "refusals": REFUSALS,
        "models": before.get("models", {}) | {name: of},
    }
    write_json(asked.out, found)
    print(f"\n{name}: by default a share {of['refuse']} of the pictures that belong may be refused")
    print(shown(of).to_string())
    return found


def shown(of: dict[str, Any]) -> pd.DataFrame:
    """A model's record of 5-way episodes of novel classes in percent, a row for each of `MEASURED_SHOTS`."""
    rows = {row["shot"]: row for row in of["novel"] if row["way"] == 5 and row["shot"] in MEASURED_SHOTS}
    columns = {
        "accuracy": "accuracy",
        "calibration error": "ece_after",
        "a sixth class refused": "outsiders_refused",
        "right answers refused": "right_refused",
    }
    lines = {f"{shot} a class": {name: 100 * rows[shot][key] for name, key in columns.items()} for shot in rows}
    return pd.DataFrame.from_dict(lines, orient="index").round(1)


def about_of(name: str) -> dict[str, Any]:
    """The experiment that a model's file tells of.

    Raises:
        ValueError: it does not say which pictures it was trained on.
    """
    about: dict[str, Any] | None = read_header(name)["about"].get("experiment")
    if about is None:
        raise ValueError(
            f"{name} does not say which data set it was trained on: it must come from a training of labkit"
        )
    return about


def report(name: str, episodes: int, seed: int, data_root: Path | None = None) -> dict[str, Any]:
    """Fit a model on validation classes and measure it on novel ones, in JSON types.

    Raises:
        ValueError: it does not say which pictures it was trained on.
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
