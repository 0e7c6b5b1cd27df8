"""What a training left becomes a model that the lab ships."""

import json
import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.common import checks
from labkit.common.versions import versions
from labkit.data import load_images
from labkit.evaluation.protocol import evaluate
from labkit.methods.base import Method
from labkit.models.checkpoints import WEIGHTS, load_model, read_header, save_model
from labkit.training.loop import build_model
from labkit.training.settings import PRESETS, Experiment, experiment

SHOTS, EPISODES = (1, 5), 2000
NAME = re.compile("[a-z0-9][a-z0-9-]*")
SET = re.compile(r"\w+=")  # OMP_NUM_THREADS=1 before a command


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


def setting_of(name: str, command: str) -> Experiment:
    """What makes a shipped model again: the preset of its name, or ``dmf-lab train PRESET FOLDER ... --changes JSON``.

    Raises:
        ValueError: the model is called as no preset is, and the command is no such line, or asks for what cannot be.
    """
    if name in PRESETS:
        return PRESETS[name]
    try:
        words = [word for word in shlex.split(checks.text("command", command)) if not SET.match(word)]
        if words[:2] == ["dmf-lab", "train"] and len(words) > 2:
            changes = words[words.index("--changes") + 1] if "--changes" in words[:-1] else "{}"
            return experiment(words[2], **json.loads(changes))
        reason = "no such line"
    except (ValueError, TypeError) as error:
        reason = f"{error}"
    example = """dmf-lab train quick FOLDER --changes '{"steps": 2400}'"""
    raise ValueError(f"command must be the line that trained the model, such as {example}, got {command!r}: {reason}")


def check_command(name: str, command: str, model: Method, recorded: Mapping[str, Any]) -> None:
    """See that a model's name or command makes it again, as it was `recorded`; options that came since do not count.

    Raises:
        ValueError: another setting, named; or as `setting_of`.
    """
    asked = setting_of(name, command)
    now = json.loads(json.dumps(asked.to_json()))
    other = [f"{key}={now.get(key)!r}" for key in recorded.keys() - {"choices"} if now.get(key) != recorded[key]]
    if not other and build_model(asked, model.classes, seed=0).recipe() != model.recipe():  # choices are in the recipe
        other = [f"choices={asked.choices!r}"]
    if other:
        by = f"the preset {name!r}" if name in PRESETS else "the command"
        raise ValueError(
            f"{by} trains another model, with {', '.join(sorted(other))}: give "
            f"{'another name' if name in PRESETS else 'the line that trained this one'}"
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
        ValueError: such a name cannot be; the training was one on other pictures than its setting names; neither
            name nor command makes the model again; it has not ended, and it was not said that it may be `unfinished`.
        FileExistsError: a model of that name is there, and it was not said to `replace` it.
    """
    file, best = place_of(name, weights, replace), folder / "best.safetensors"
    about, result = read_header(best)["about"], folder / "result.json"
    check_pictures(best, about)
    e, model = about["experiment"], load_model(best)
    check_command(name, command, model, e)
    measured = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
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
    row = f"| `{name}` | {results[e['shot']].accuracy:.1f} ± {results[e['shot']].ci95:.1f} |"
    print(f"Still to be written into labkit/results/README.md, where a test looks for it: a row with {row}")
    return file
