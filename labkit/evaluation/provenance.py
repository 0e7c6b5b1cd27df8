"""What is recorded beside a result: of which networks and pictures it is, and the command that makes it again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from labkit.common.files import write_atomically, write_json
from labkit.common.versions import versions
from labkit.data.glyphs.load import DATASETS
from labkit.data.imageset import ImageSet
from labkit.evaluation import intervals
from labkit.evaluation.protocol import Result
from labkit.methods.base import Method
from labkit.models.checkpoints import read_header


def about(weights: Sequence[Path | str], models: Mapping[str, Method], images: ImageSet) -> dict[str, Any]:
    """What is recorded beside results: the networks by their names, and the pictures."""
    where = asdict(images.provenance) | {"digest": images.digest}
    kept = ("dataset", "split", "layout", "source_size", "resampling", "digest")
    networks = {name: of_network(own, model) for own, (name, model) in zip(weights, models.items(), strict=True)}
    return {
        "networks": networks,
        "images": {k: where[k] for k in kept} | {"labels": images.labels_digest, "size": images.size},
    }


def said(weights: Sequence[Path | str], models: Mapping[str, Method], images: ImageSet) -> str:
    """One line a network, and one for the pictures: whose numbers follow."""
    lines = []
    for own, (name, model) in zip(weights, models.items(), strict=True):
        about = of_network(own, model)
        reached = ""
        if novel := about.get("accuracy"):
            reached = f", {intervals.shown(novel['accuracy'], novel['ci95'])} % on novel classes"
        elif "validation accuracy" in about:
            reached = f", {about['validation accuracy']:.1f} % on validation classes"
        where = f"trained on {about.get('trained on', 'pictures that its file does not name')}"
        lines.append(f"{name}: {about['weights']} ({about['digest']}), {where}{reached}")
    return "\n".join([*lines, f"pictures: {images!r}"])


def kept(file: Path, models: Mapping[str, Method], images: ImageSet) -> dict[str, Any] | None:
    """A result that `about` was recorded in, if these networks are among its own, and the pictures are the same."""
    if not file.is_file():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    weights = {own["digest"] for own in content["networks"].values()}
    same = {digest(model) for model in models.values()} <= weights
    of = content["images"]
    same &= of["digest"] == images.digest
    return content if same and of.get("labels", images.labels_digest) == images.labels_digest else None


def write_results(folder: Path, results: Mapping[str, Result], **about: Any) -> pd.DataFrame:
    """Write ``result.json`` (with versions) and ``accuracies.csv`` of a run, and return the table in the second.

    Args:
        folder: of the run.
        results: by the name of what was evaluated.
        about: more to be kept in ``result.json``, in JSON types: experiment, seed, validation accuracy.
    """
    summary = {"accuracies": {name: r.summary() for name, r in results.items()}, **about, "versions": versions()}
    write_json(folder / "result.json", summary)
    table = pd.DataFrame(summary["accuracies"]).T[["accuracy", "ci95", "class_interval", "episodes"]]
    write_atomically(folder / "accuracies.csv", table.to_csv().encode())
    return table


def of_network(weights: Path | str, model: Method) -> dict[str, Any]:
    """What is recorded of a network beside results: name, weights, on what, with which seed and how far it was trained.

    No path: a result tells of weights, not of a machine.
    """
    about = read_header(weights)["about"]
    trained = about.get("experiment", {})
    validation = about.get("validation", {})
    kept = {"weights": Path(weights).stem, "digest": digest(model), "trained on": trained.get("dataset")}
    kept |= {"setting": trained.get("name"), "seed": about.get("seed"), "step": about.get("step")}
    kept["validation accuracy"] = validation.get("accuracy") if isinstance(validation, dict) else validation
    if shipped := about.get("shipped"):
        kept["accuracy"] = {k: shipped[k] for k in ("accuracy", "ci95", "dataset", "split", "episodes")}
    return {name: value for name, value in kept.items() if value is not None}


def digest(model: torch.nn.Module) -> str:
    """sha256 (first 16 hex digits) of the names and values of a model's weights; in what file is all the same."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(name.encode() + value.cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def said_pictures(dataset: str, data_root: object = None) -> str:
    """The options of a command that name the pictures; where they lie a recorded one does not tell."""
    return f"--dataset {dataset}" + ("" if dataset in DATASETS else f" --data-root {data_root or 'ROOT'}")


def figure_command(figure: str, dataset: str, weights: Sequence[Path | str], **options: Any) -> str:
    """The command that is recorded beside a figure of any pictures."""
    names = " ".join(Path(own).stem for own in weights)
    plan = "".join(f" --{name} {value}" for name, value in options.items())
    return f"dmf-lab figure {figure} {said_pictures(dataset)} --weights {names}{plan}"
