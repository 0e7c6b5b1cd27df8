"""Weights in two files of at most 16 MB each (more for a larger network), and back: `save_parts` and `load_parts`.

They are plain safetensors files of float16 tensors, a part of the network in each; the first one's header holds how to
build it, and all of them the digest of the whole.
"""

import glob
import hashlib
import json
import math
from collections.abc import Sequence
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


def how_many(sizes: Sequence[int]) -> int:
    """Files for tensors of these sizes in bytes: two, or as many as it takes; a tenth is left for headers and rest."""
    return max(2, math.ceil(sum(sizes) / (0.9 * MOST_BYTES)))


def save_parts(model: Method, source: Path, folder: Path, name: str) -> list[Path]:
    """Write a trained network as ``NAME.1-of-2.safetensors`` and so on.

    Args:
        model: as `load_model` read it from `source`.
        source: its file, whose header is kept.
        folder, name: where to.

    Raises:
        ValueError: a part is larger than `MOST_BYTES`, since a single tensor is.
    """
    state = {key: _half(value.detach().cpu().contiguous()) for key, value in model.state_dict().items()}
    count = how_many([value.nbytes for value in state.values()])
    parts: list[dict[str, torch.Tensor]] = [{} for _ in range(count)]
    sizes = [0] * count
    for key in sorted(state, key=lambda k: (-state[k].nbytes, k)):  # the largest first, each to the smallest part
        where = sizes.index(min(sizes))
        parts[where][key] = state[key]
        sizes[where] += state[key].nbytes
    common = {"sha256": _digest(state)}
    files = []
    for i, part in enumerate(parts):
        kept = common | ({"header": read_header(source)} if i == 0 else {})
        content = safetensors.torch.save(part, metadata={"labkit_part": json.dumps(kept)})
        files.append(folder / f"{name}.{i + 1}-of-{count}.safetensors")
        if len(content) > MOST_BYTES:
            raise ValueError(f"{files[-1].name} would have {len(content)} bytes, and at most {MOST_BYTES} are allowed")
        write_atomically(files[-1], content)
    return files


def load_parts(folder: Path, name: str) -> Method:
    """The network that `save_parts` wrote, on the CPU in evaluation mode; `labkit.models.save_model` makes it one file.

    Raises:
        FileNotFoundError: there is no first part.
        ValueError: a part is missing, they do not belong together, or one is damaged.
    """
    state: dict[str, torch.Tensor] = {}
    kept = []
    files = sorted(folder.glob(f"{glob.escape(name)}.*-of-*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no {name}.1-of-2.safetensors, as save_parts writes")
    for file in files:
        with safe_open(file, framework="pt") as opened:
            kept.append(json.loads(opened.metadata()["labkit_part"]))
            state |= {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (no dictionary)
    if "header" not in kept[0] or {part["sha256"] for part in kept} != {_digest(state)}:
        raise ValueError(f"the files of {name} in {folder} are damaged, incomplete or of two networks: copy all again")
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
