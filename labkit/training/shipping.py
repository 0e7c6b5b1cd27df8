"""What a training left becomes a model that the lab ships."""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.common import checks
from labkit.common.versions import versions
from labkit.data import load_images
from labkit.evaluation.protocol import evaluate
from labkit.models.checkpoints import WEIGHTS, load_model, read_header, save_model

SHOTS, EPISODES = (1, 5), 2000
NAME = re.compile("[a-z0-9][a-z0-9-]*")


def place_of(name: str, weights: Path, replace: bool) -> Path:
    """The file of a model that is to be shipped.

    Raises:
        TypeError: the name is no text.
        ValueError: a name that would leave `weights` or be written in two ways.
        FileExistsError: a model of that name is shipped already, and it was not said that it is to be replaced.
    """
    if not NAME.fullmatch(checks.text("name", name)):
        raise ValueError(f"name must be small letters, digits and hyphens, such as mini-full, got {name!r}")
    file = weights / f"{name}.safetensors"
    if file.exists() and not replace:
        raise FileExistsError(f"{name} is shipped already, as {file}: choose another name, or say --replace")
    return file


def check_pictures(file: Path | str, about: Mapping[str, Any]) -> None:
    """See that a trained model was validated on the data set that its setting names, on which it will be measured.

    Files of notebook 3 keep no validation of their own: it loads what the setting names. A folder of one's own is
    recorded by its own name.

    Raises:
        ValueError: other pictures were handed to the training than its setting names.
    """
    named, validated = about["experiment"]["dataset"], about.get("validation")
    found = validated.get("dataset", named) if isinstance(validated, Mapping) else named
    if found != named != "folder":
        raise ValueError(
            f"{file} was trained on {found!r}, and its setting names {named!r}, on which it would be measured: ship "
            "and calibrate take models of the setting's own pictures; fit others with labkit.calibrate"
        )


def ship(
    folder: Path,
    name: str,
    command: str,
    data_root: Path | None = None,
    weights: Path = WEIGHTS,
    episodes: int = EPISODES,
    unfinished: bool = False,
    replace: bool = False,
) -> Path:
    """Write ``NAME.safetensors`` into `weights` from what a training left in `folder`: ``best.safetensors`` and
    ``metrics.jsonl``, and of notebook 3 ``result.json``.

    Raises:
        ValueError: such a name cannot be; the training was one on other pictures than its setting names; it has not
            ended, and it was not said that it may be `unfinished`.
        FileExistsError: a model of that name is there, and it was not said to `replace` it.
    """
    file, best = place_of(name, weights, replace), folder / "best.safetensors"
    about, result = read_header(best)["about"], folder / "result.json"
    check_pictures(best, about)
    e = about["experiment"]
    measured = json.loads(result.read_text()) if result.exists() else {}
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    # Of a step without its validation the weights are not in the file: the training was stopped between the two.
    done = max((line["step"] for line in metrics if "validation" in line), default=0)
    if done < e["steps"] and not unfinished:
        reached = f"{folder} is validated up to step {done} of {e['steps']}"
        raise ValueError(f"{reached}: wait for its end, or say --unfinished")
    story: dict[str, Any] = about | {
        "command": command,
        "versions": measured.get("versions", versions()),
        "validation_curve": [[m["step"], m["validation"]] for m in metrics if "validation" in m],
    }
    if measured:
        story["result"] = {k: measured[k] for k in ("accuracies", "validation")}
    model = load_model(best)
    options = {"per_class": e["per_class"]} if e.get("per_class") else {}
    novel = load_images(e["dataset"], "test", size=e["size"], root=data_root, progress=False, **options)
    with tempfile.TemporaryDirectory() as scratch:  # what is shipped already stays until all is measured
        rounded = Path(scratch) / file.name
        save_model(model, rounded, story, half=True)
        shipped = load_model(rounded)
    results = {k: evaluate(shipped, novel, e["way"], k, e["test_query"], episodes) for k in sorted({*SHOTS, e["shot"]})}
    story["shipped"] = results[e["shot"]].summary()
    story["shipped_by_shot"] = {str(k): r.summary() for k, r in results.items()}
    save_model(model, file, story, half=True)
    for shot, r in results.items():
        print(f"{file.name}, {shot} shot: {r}")
    return file
