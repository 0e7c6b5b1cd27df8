"""What a training left becomes a model that the lab ships."""

import json
import tempfile
from pathlib import Path
from typing import Any

from labkit.common.versions import versions
from labkit.data import load_images
from labkit.evaluation.protocol import evaluate
from labkit.models.checkpoints import WEIGHTS, load_model, read_header, save_model

SHOTS, EPISODES = (1, 5), 2000


def ship(
    folder: Path,
    name: str,
    command: str,
    data_root: Path | None = None,
    weights: Path = WEIGHTS,
    episodes: int = EPISODES,
    unfinished: bool = False,
) -> Path:
    """Write ``NAME.safetensors`` into `weights` from what a training left in `folder`: ``best.safetensors`` and
    ``metrics.jsonl``, and of notebook 3 ``result.json``.

    Raises:
        ValueError: the training has not ended, and it was not said that it may be `unfinished`.
    """
    about, result = read_header(folder / "best.safetensors")["about"], folder / "result.json"
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
    model, file = load_model(folder / "best.safetensors"), weights / f"{name}.safetensors"
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
