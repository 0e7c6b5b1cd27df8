"""Ship a trained model with the lab, in half precision, with its story.

``python -m labkit ship runs/quick-seed0 quick --command "papermill 03_train.ipynb ../runs/03_train.ipynb"``

The accuracy of the very weights that are shipped is measured anew, since rounding to half precision may move it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from labkit.data import load_images
from labkit.evaluation.protocol import evaluate
from labkit.models.checkpoints import WEIGHTS, load_model, save_model


def promote(folder: Path, name: str, command: str) -> Path:
    """Write ``weights/NAME.safetensors`` from what notebook 03 left in `folder`.

    Args:
        folder: holds ``best.safetensors``, ``result.json`` and ``metrics.jsonl``.
        name: by which `labkit.load_model` will find it.
        command: that made it, recorded.
    """
    result = json.loads((folder / "result.json").read_text())
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    experiment = result["experiment"]
    file = WEIGHTS / f"{name}.safetensors"
    about = {
        "command": command,
        "experiment": experiment,
        "seed": result["seed"],
        "versions": result["versions"],
        "result": {k: result[k] for k in ("accuracies", "validation")},
        "validation_curve": [[m["step"], m["validation"]] for m in metrics if "validation" in m],
    }
    model = load_model(folder / "best.safetensors")
    save_model(model, file, about, half=True)
    options = {"size": experiment["size"], "per_class": experiment["per_class"], "progress": False}
    novel = load_images(experiment["dataset"], "test", **options)
    shot, query = experiment["shot"], experiment["test_query"]
    shipped = evaluate(load_model(file), novel, experiment["way"], shot, query, episodes=2000)
    save_model(model, file, about | {"shipped": shipped.summary()}, half=True)
    print(f"{file.name}: {shipped}")
    return file


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``dmf-lab ship`` takes."""
    parser.add_argument("folder", type=Path, help="what notebook 03 left")
    parser.add_argument("name", help="by which `labkit.load_model` will find it")
    parser.add_argument("--command", required=True, help="the command that trained it")


def main(given: argparse.Namespace) -> int:
    """Ship it."""
    promote(given.folder, given.name, given.command)
    return 0
