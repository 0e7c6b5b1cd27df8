"""Models on disk: safetensors with everything needed to build and feed them.

Every file carries the SHA-256 of all of itself, so that a flipped bit anywhere is found when it is read.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from labkit.common import checks, places
from labkit.common.devices import available
from labkit.common.files import instead, is_file, write_atomically
from labkit.episodes.preprocessing import Preprocessing
from labkit.methods.base import Method
from labkit.methods.shapes_only import shapes_only
from labkit.models.registry import METHODS, name_of

WEIGHTS = places.WEIGHTS
HEADER = {"method", "recipe", "preprocessing", "about"}  # of a model; and "sha256"
SEAL = b"labkit sha256 "  # marks the state of a training, before 64 hex digits: in its first line, or at its end
UNKNOWN = "0" * 64  # stands where the digest will, while the file is digested


def save_model(model: Method, path: Path | str, about: dict[str, Any] | None = None, half: bool = False) -> None:
    """Write a model with how to build it (`Method.recipe`), its preprocessing and where it came from.

    Args:
        model: its backbone must be one given by name.
        path: ends in ``.safetensors``.
        about: JSON types: the command, versions and metrics that made it.
        half: store floats as float16, as shipped weights are, but for tensors with values too large for it.
    """
    checks.kind("model", model, Method, "a method of labkit, such as labkit.DMF")
    file = checks.path("path", path)
    if file.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {str(path)!r}")
    checks.kind("about", about, (dict, type(None)), "a dict of JSON types")
    half, about = checks.flag("half", half), checks.plain(about or {})
    try:
        json.dumps(about)
    except (TypeError, ValueError) as error:
        raise TypeError(f"about must be a dict of JSON types: {error}") from None
    state = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
    if half:
        state = {k: _half(v) for k, v in state.items()}
    preprocessing = vars(model.preprocessing) if model.preprocessing else None
    header = {"method": name_of(model), "recipe": model.recipe(), "preprocessing": preprocessing, "about": about}
    write_atomically(file, sealed(state, header))


def _half(value: torch.Tensor) -> torch.Tensor:
    half = value.half() if value.is_floating_point() else value
    return half if half.isfinite().all() or not value.isfinite().all() else value


def sealed(state: dict[str, torch.Tensor], header: dict[str, Any]) -> bytes:
    """A safetensors file whose header says, last, the digest of the file."""
    metadata = {"labkit": json.dumps(header | {"sha256": UNKNOWN})}
    content = safetensors.torch.save(state, metadata=metadata)
    return _with_digest(content, UNKNOWN, hashlib.sha256(content).hexdigest())


def _with_digest(content: bytes, old: str, new: str) -> bytes:
    """`content` with another digest at the end of its header, where it stands in JSON within JSON."""
    before, found, after = content.rpartition(rf"\"sha256\": \"{old}\"".encode())
    return before + found.replace(old.encode(), new.encode()) + after


def load_model(path: Path | str, device: torch.device | str = "cpu") -> Method:
    """A model as `save_model` wrote it, or shipped with the lab (its bare name, for example ``"quick"``), in eval mode.

    Its weights are float32, whatever the file holds; only a model that was saved in float64 comes back so.

    Raises:
        FileNotFoundError: neither a file nor a shipped model; says which are shipped.
        ValueError: not one of our files, or damaged, or its tensors do not fit the model it describes.
    """
    file = resolve(path)
    header, content = _read(file)
    name, kept = header["method"], header["preprocessing"]
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"{file} holds a {name!r:.80}, and there are only {sorted(METHODS)}")
    try:
        with shapes_only():  # the file may ask for any size, and gets the tensors that it brought itself
            model = METHODS[name].from_recipe(header["recipe"])
        kinds = {k: v.dtype for k, v in model.state_dict().items()}
        state = safetensors.torch.load(content)
        if {v.dtype for v in state.values() if v.is_floating_point()} != {torch.float64}:
            state = {k: v.to(kinds.get(k, v.dtype)) for k, v in state.items()}
        model.load_state_dict(state, assign=True)
        if kept:
            model.preprocessing = Preprocessing(**kept | {"mean": tuple(kept["mean"]), "std": tuple(kept["std"])})
    except Exception as error:  # a wrong recipe can raise nearly anything
        raise ValueError(f"{file}: its tensors do not fit the model it describes: {f'{error}':.2000}") from None
    return model.to(available(device)).eval()


def resolve(path: Path | str) -> Path:
    """The file of a path or of a shipped model's name."""
    own = checks.path("path", path, "the path of a file, or the name of a shipped model")
    for candidate in (own, WEIGHTS / f"{path}.safetensors"):
        if is_file(candidate):
            return candidate
    shipped = sorted(p.stem for p in WEIGHTS.glob("*.safetensors"))
    raise FileNotFoundError(f"{path} is neither a file nor one of the shipped models {shipped}")


def read_header(path: Path | str) -> dict[str, Any]:
    """Recipe, preprocessing and provenance of a saved model, without its weights.

    Raises:
        FileNotFoundError, ValueError: as `load_model`.
    """
    return _read(resolve(path))[0]


def _other(content: bytes) -> str:
    if SEAL in (content[: len(SEAL)], content[-len(SEAL) - 64 : -64]):
        return "it is the state of a training; `best.safetensors` beside it is the model"
    return "torch.save did; a checkpoint of the authors' DMF is read by labkit.load_released"


def _read(file: Path) -> tuple[dict[str, Any], bytes]:
    """Header and content of one of our files, its digest checked."""
    content = file.read_bytes()
    try:
        outer = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        header = json.loads(outer["__metadata__"]["labkit"])
        digest = header.pop("sha256")
        if header.keys() != HEADER:
            raise ValueError(f"its header has {sorted(header)}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if content.startswith((b"PK", b"\x80", SEAL)):
            raise ValueError(f"{file} is not a model that save_model wrote: {_other(content)}") from None
        if other := instead(content):
            raise ValueError(f"{file} is not a model that save_model wrote: it is {other}") from None
        raise ValueError(
            f"{file} is not a model that save_model wrote, or is damaged ({type(error).__name__}: {f'{error}':.200})"
        ) from None
    if hashlib.sha256(_with_digest(content, f"{digest}", UNKNOWN)).hexdigest() != digest:
        raise ValueError(f"{file} is damaged: its content is not what its checksum says; copy it again")
    return header, content
