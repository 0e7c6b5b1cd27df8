"""Fit the probabilities of shipped models and "none of these" on validation classes; measure them on novel ones.

What is fitted is kept in the lab's results, where `labkit.classify` finds it: temperatures, thresholds, and the share
of pictures that is refused by default, the largest that refuses right answers rarely on validation classes. At the end
it is printed what that does on novel classes at 1, 3 and 5 pictures a class.

dmf-lab calibrate mini --data-root /data/x
"""

import argparse
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from labkit.common.checks import check_int
from labkit.common.files import read_json, write_json
from labkit.common.versions import versions
from labkit.evaluation.chosen import names_of
from labkit.own_images.calibration import RESULTS
from labkit.own_images.calibration_record import MEASURED_SHOTS, about_of, fit_and_measure, free_name, with_model

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
        found = fit_and_measure(file, asked.episodes, asked.seed, asked.data_root) | made
        free = free_name(name, file, found, before.get("models", {}))
        if free != name:
            print(f"{asked.out} holds another model as {name!r}: this one is kept as {free!r}")
        before = with_model(before, free, found, made | {"episodes": asked.episodes, "seed": asked.seed})
        write_json(asked.out, before)
        print(f"\n{free}: by default a share {found['refuse']} of the pictures that belong may be refused")
        print(shown(found).to_string())
    return 0


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
