"""Models on disk: safetensors with everything needed to build and feed them, and the state of a running training."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from labkit.method import Method
from labkit.methods import METHODS, name_of
from labkit.preprocessing import Preprocessing

WEIGHTS = Path(__file__).parent / "weights"


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` at once: whoever reads it finds the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(0o644)  # mkstemp gives 0o600, which would hide shared results
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def save_model(model: Method, path: Path | str, about: dict[str, Any] | None = None, half: bool = False) -> None:
    """Write a model with how to build it (`Method.recipe`), its preprocessing and where it came from.

    Args:
        model: its backbone must be one given by name.
        path: ends in ``.safetensors``.
        about: JSON types: the command, versions and metrics that made it.
        half: store floats as float16, as shipped weights are.
    """
    state = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    preprocessing = vars(model.preprocessing) if model.preprocessing else None
    header = {"method": name_of(model), "recipe": model.recipe(), "preprocessing": preprocessing, "about": about or {}}
    metadata = {"labkit": json.dumps(header)}
    write_atomically(Path(path), safetensors.torch.save(state, metadata=metadata))


def load_model(path: Path | str, device: torch.device | str = "cpu") -> Any:
    """A model as `save_model` wrote it, or shipped with the lab (its bare name, for example ``"quick"``), in eval mode.

    Raises:
        FileNotFoundError: neither a file nor a shipped model; says which are shipped.
        ValueError: not one of our files, or its tensors do not fit the model it describes.
    """
    file = resolve(path)
    header = read_header(file)
    name = header.get("method", "dmf")
    if name not in METHODS:
        raise ValueError(f"{file} holds a {name!r}, and there are only {sorted(METHODS)}")
    model = METHODS[name](**header["recipe"])
    state = {k: v.float() if v.is_floating_point() else v for k, v in safetensors.torch.load_file(file).items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{file}: its tensors do not fit the model it describes: {error}") from None
    if header["preprocessing"]:
        kept = header["preprocessing"]
        model.preprocessing = Preprocessing(**kept | {"mean": tuple(kept["mean"]), "std": tuple(kept["std"])})
    return model.to(device).eval()


def resolve(path: Path | str) -> Path:
    """The file of a path or of a shipped model's name."""
    for candidate in (Path(path), WEIGHTS / f"{path}.safetensors"):
        if candidate.is_file():
            return candidate
    shipped = sorted(p.stem for p in WEIGHTS.glob("*.safetensors"))
    raise FileNotFoundError(f"{path} is neither a file nor one of the shipped models {shipped}")


def read_header(path: Path | str) -> dict[str, Any]:
    """Recipe, preprocessing and provenance of a saved model, without its weights."""
    file = resolve(path)
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            header: dict[str, Any] = json.loads(opened.metadata()["labkit"])
            return header
    except (safetensors.SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is not a model that save_model wrote ({type(error).__name__}: {error})") from None
