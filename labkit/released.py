"""The authors' checkpoints, read and written: ``{"state_dict", "acc", "epoch"}`` in a ``.pth.tar``.

A model read from one gives the scores that the released code gives with it. Nothing in such a file is run: it is read
with torch's own restricted unpickler, which beyond tensors and plain values gets the four names of `ALLOWED`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.checkpoints import write_atomically
from labkit.choices import PRESETS
from labkit.dmf import DMF
from labkit.preprocessing import Preprocessing

# `acc` is a NumPy scalar in files of the authors' training script; numpy 1 and 2 name its making differently.
_scalar = np.float64(0).__reduce__()[0]
ALLOWED: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    type(np.dtype(np.float64)),
]

SIZE = 84  # of the images it is trained on; the file does not say how they were resized
OTHERS = {"CAN (Hou et al., 2019)": r"cam\.", "FEAT (Ye et al., 2020)": r"(encoder|slf_attn)\."}


def load_released(path: Path | str, device: torch.device | str = "cpu") -> DMF:
    """A `DMF` in the ``"released"`` preset with the weights of an authors' checkpoint, in eval mode.

    Width of the ResNet-12, groups and base classes follow from the shapes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of theirs, one of CAN or FEAT, one with kernel 3, or keys that are missing,
            unexpected or misshapen, all of them listed with what was expected.
    """
    file = Path(path)
    theirs = _state_of(_read(file), file)
    for method, pattern in OTHERS.items():
        if any(re.match(pattern, key) for key in theirs) and "dw_gen.off_conv.weight" not in theirs:
            raise ValueError(f"{file} is a checkpoint of {method}, not of DMF")
    needed = ("base.layer4.0.conv3.weight", "dw_gen.kernel_conv.weight", "global_clasifier.weight")
    absent = [key for key in needed if getattr(theirs.get(key), "ndim", 0) != 4]
    if absent:
        raise ValueError(f"{file} is not a DMF checkpoint: {', '.join(absent)} missing or not of four dimensions")
    channels, rows, classes = (theirs[key].shape[0] for key in needed)
    if rows % 9 == 0 and channels % rows:
        raise ValueError(
            f"{file} has kernel 3 ({rows} filter rows, {rows // 9} groups): the released code folds such filters by "
            "mistake across positions, so no network of the paper's can have its scores; only kernel 1 is read"
        )
    if channels % rows:
        raise ValueError(f"{file}: {rows} groups do not divide {channels} channels")
    model = DMF("resnet12", rows, "released", classes=classes, backbone_options={"width": channels / 640})
    expected = {_their_name(name): value for name, value in model.state_dict().items()}
    _check(theirs, expected, file)
    model.load_state_dict({name: theirs[_their_name(name)] for name in model.state_dict()})
    model.preprocessing = Preprocessing(SIZE, None)
    return model.to(device).eval()


def save_released(model: DMF, path: Path | str, acc: float = 0.0, epoch: int = 0) -> None:
    """Write `model` as the released code reads it, PyTorch 1.4 included.

    Args:
        model: a full-depth ResNet-12 without its last pooling, kernel 1, its choices those of ``"released"``.
        path: by their custom ends in ``.pth.tar``.
        acc, epoch: stored beside the weights.

    Raises:
        ValueError: the released code could not compute what the model computes; says why.
    """
    other = [
        f"{name} is {value!r} (released: {getattr(PRESETS['released'], name)!r})"
        for name, value in vars(model.choices).items()
        if name not in ("rtol", "atol", "offset_scale") and value != getattr(PRESETS["released"], name)
    ]
    if model.backbone_name != "resnet12" or model.backbone_options.get("last_pool"):
        other.append("its backbone is not a ResNet-12 without the last pooling")
    if other:
        raise ValueError(f"the released code cannot hold this model: {'; '.join(other)}")
    state = {_their_name(name): value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    for layer in (1, 2):  # a counter that their code keeps and never reads in the blocks without DropBlock
        state[f"base.layer{layer}.0.num_batches_tracked"] = state["base.layer3.0.num_batches_tracked"].clone()
    buffer = io.BytesIO()
    content = {"state_dict": state, "acc": float(acc), "epoch": int(epoch)}
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    write_atomically(Path(path), buffer.getvalue())


def _read(file: Path) -> Any:
    if not file.is_file():
        raise FileNotFoundError(f"there is no checkpoint {file}")
    try:
        with torch.serialization.safe_globals(ALLOWED):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a dozen kinds of damage
        reason = str(error).strip().split("\n")[0][:300]
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            reason = f"it asks for {named[1]}, and only tensors and plain values are read"
        raise ValueError(f"{file} is not a checkpoint that can be read: {reason}") from None


def _state_of(content: Any, file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint or of a bare state dict, without DataParallel's prefix."""
    if isinstance(content, Mapping):
        content = content.get("state_dict", content.get("params", content))
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ValueError(f"{file} holds no state dict: names with tensors were expected")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _their_name(ours: str) -> str:
    name = re.sub(r"^backbone\.(layer\d)\.", r"base.\1.0.", ours)
    name = name.replace(".drop.batches", ".num_batches_tracked").replace("global_classifier", "global_clasifier")
    return name.replace("offset_conv", "dw_gen.off_conv").replace("filter_conv", "dw_gen.kernel_conv")


def _check(theirs: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path) -> None:
    ignored = {f"base.layer{layer}.0.num_batches_tracked" for layer in (1, 2)}
    wrong = [f"missing {k}, {list(v.shape)} expected" for k, v in expected.items() if k not in theirs]
    wrong += [f"unexpected {k} {list(v.shape)}" for k, v in theirs.items() if k not in expected.keys() | ignored]
    wrong += [
        f"{k} has shape {list(theirs[k].shape)}, {list(v.shape)} expected"
        for k, v in expected.items()
        if k in theirs and theirs[k].shape != v.shape
    ]
    if wrong:
        raise ValueError(f"{file} does not fit:\n  " + "\n  ".join(wrong))
