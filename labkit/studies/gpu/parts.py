"""Weights in two files of at most 16 MB each, and back: `save_parts` and `load_parts`.

Both are plain safetensors files of float16 tensors, half of the network in each; the first one's header holds how to
build it, and both the digest of all of it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open

from labkit.common.files import write_atomically
from labkit.episodes.preprocessing import Preprocessing
from labkit.methods.base import Method
from labkit.models.checkpoints import read_header
from labkit.models.registry import METHODS

MOST_BYTES = 16_000_000  # of a file


def files_of(folder: Path, name: str) -> tuple[Path, Path]:
    """Where the two halves of a network lie."""
    return folder / f"{name}.1-of-2.safetensors", folder / f"{name}.2-of-2.safetensors"


def save_parts(model: Method, source: Path, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a trained network as two files.

    Args:
        model: as `load_model` read it from `source`.
        source: its file, whose header is kept.
        folder, name: where to, see `files_of`.

    Raises:
        ValueError: a half is larger than `MOST_BYTES`; such a network needs more files than two.
    """
    state = {key: _half(value.detach().cpu().contiguous()) for key, value in model.state_dict().items()}
    halves: tuple[dict[str, torch.Tensor], ...] = {}, {}
    sizes = [0, 0]
    for key in sorted(state, key=lambda k: (-state[k].nbytes, k)):  # the larger first, each to the smaller half
        where = sizes.index(min(sizes))
        halves[where][key] = state[key]
        sizes[where] += state[key].nbytes
    about = {"header": read_header(source), "sha256": _digest(state)}
    files = files_of(folder, name)
    for i, (file, half) in enumerate(zip(files, halves, strict=True)):
        kept = about if i == 0 else {"sha256": about["sha256"]}
        content = safetensors.torch.save(half, metadata={"labkit_part": json.dumps(kept)})
        if len(content) > MOST_BYTES:
            raise ValueError(f"{file.name} would have {len(content)} bytes, and at most {MOST_BYTES} are allowed")
        write_atomically(file, content)
    return files


def load_parts(folder: Path, name: str) -> Method:
    """The network that `save_parts` wrote, on the CPU in evaluation mode; `labkit.models.save_model` makes it one file.

    Raises:
        FileNotFoundError: a half is missing.
        ValueError: the halves do not belong together, or are damaged.
    """
    state: dict[str, torch.Tensor] = {}
    kept = []
    for file in files_of(folder, name):
        with safe_open(file, framework="pt") as opened:
            kept.append(json.loads(opened.metadata()["labkit_part"]))
            state |= {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (no dictionary)
    if not kept[0]["sha256"] == kept[1]["sha256"] == _digest(state):
        raise ValueError(f"the two files of {name} in {folder} are damaged, or of two networks: copy both again")
    header = kept[0]["header"]
    model: Method = METHODS[header["method"]].from_recipe(header["recipe"])
    kinds = {key: value.dtype for key, value in model.state_dict().items()}
    model.load_state_dict({key: value.to(kinds[key]) for key, value in state.items()})
    model.preprocessing = Preprocessing(**header["preprocessing"])
    return model.eval()


def _half(value: torch.Tensor) -> torch.Tensor:
    """float16, unless a value is too large for it."""
    half = value.half() if value.is_floating_point() else value
    return half if not value.is_floating_point() or bool(half.isfinite().all()) else value


def _digest(state: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for key in sorted(state):
        found.update(key.encode() + state[key].numpy().tobytes())
    return found.hexdigest()
