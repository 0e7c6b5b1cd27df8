"""The authors' checkpoints, read and written: ``{"state_dict", "acc", "epoch"}`` in a ``.pth.tar``.

A model read from one gives the scores that the released code gives with it. Nothing in such a file is run: see
`labkit.common.torch_files`.
"""

import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mode
from typing import Any

import torch
from torch import Tensor

from labkit.common import checks
from labkit.common.devices import available
from labkit.common.errors import few
from labkit.common.files import is_file, write_atomically
from labkit.common.torch_files import read_torch
from labkit.dmf.model import DMF
from labkit.dmf.options import PRESETS
from labkit.episodes.preprocessing import Preprocessing
from labkit.methods.backbones import RESNET12_CHANNELS
from labkit.methods.shapes_only import shapes_only

NESTS = ("state_dict", "model", "net", "params", "network", "module", "model_state_dict")  # of a checkpoint's network
NETWORK = re.compile(r"(?:^|\.)(base\.layer\d|dw_gen\.|global_clasifier\.)")
WRAPPERS = re.compile(r"(?:(?<=^)|(?<=\.))(?:module|_orig_mod)\.")
DEPTH, LISTED = 4, 8  # dictionaries in one another that are looked into; keys that a message names
SIZE = 84  # of the images it is trained on; the file does not say how they were resized
OTHERS = {"CAN (Hou et al., 2019)": r"cam\.", "FEAT (Ye et al., 2020)": r"(encoder|slf_attn)\."}

# Which dimensions of which tensors tell a network's size. The commonest answer is taken, so that a single tensor of
# another shape is the one reported.
CHANNELS = {
    "base.layer4.0.conv3.weight": 0,
    "dw_gen.kernel_conv.weight": 1,
    "global_clasifier.weight": 1,
    "base.layer4.0.conv2.weight": 0,
    "base.layer4.0.bn3.weight": 0,
}
ROWS = {"dw_gen.kernel_conv.weight": 0}
CLASSES = {"global_clasifier.weight": 0, "global_clasifier.bias": 0}

# Their DropBlock's counter, kept in every block and read in the last two only.
UNUSED = ("base.layer1.0.num_batches_tracked", "base.layer2.0.num_batches_tracked")

# What no score depends on, in the order of `Choices`.
OF_TRAINING = ("rtol", "atol", "few_shot_loss", "loss_weights", "global_reads", "offset_scale")


def load_released(path: Path | str, device: torch.device | str = "cpu") -> DMF:
    """A `DMF` in the ``"released"`` preset with the weights of an authors' checkpoint, in eval mode.

    Width of the ResNet-12, groups and base classes follow from the shapes. A bare state dict is read too, one within
    other dictionaries (``{"model": ...}``), and names with a prefix, as DataParallel, torch.compile and wrappers give.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of theirs, one of CAN or FEAT, one with kernel 3, or keys that are missing,
            unexpected or misshapen, all of them listed with what was expected.
    """
    file = checks.path("path", path, "the path of a checkpoint")
    if not is_file(file):
        raise FileNotFoundError(f"there is no checkpoint {file}")
    content = file.read_bytes()
    if content[8:10] == b'{"' or content.startswith(b"labkit sha256 "):
        raise ValueError(f"{file} is a file of this lab's, not of the authors': labkit.load_model reads models")
    theirs = _state_of(read_torch(content, file), file)
    for method, pattern in OTHERS.items():
        if any(re.match(pattern, key) for key in theirs) and "dw_gen.off_conv.weight" not in theirs:
            raise ValueError(f"{file} is a checkpoint of {method}, not of DMF")
    if not any(key.startswith(("base.layer", "dw_gen.")) for key in theirs):
        some = ", ".join(list(theirs)[:LISTED]) + (", ..." if len(theirs) > LISTED else "")
        raise ValueError(
            f"{file} is not a DMF checkpoint: of its {len(theirs)} keys none is in base.layer or dw_gen; it has {some}"
        )
    channels = 4 * max(1, round(_size(theirs, CHANNELS, 640) / 4))  # as `ResNet12` rounds them
    rows, classes = _size(theirs, ROWS, 64), _size(theirs, CLASSES, 64)
    if rows % 9 == 0 and channels % rows:
        raise ValueError(
            f"{file} has kernel 3 ({rows} filter rows, {rows // 9} groups): the released code folds such filters by "
            "mistake across positions, so no network of the paper's can have its scores; only kernel 1 is read"
        )
    groups = 1 if channels % rows else rows
    with shapes_only():  # until they are known to be those of the file
        width = _width(theirs, channels)
        model = DMF("resnet12", groups, "released", classes=classes, backbone_options={"width": width})
    expected: dict[str, list[int | str]] = {_their_name(k): [*v.shape] for k, v in model.state_dict().items()}
    expected |= {key: [] for key in UNUSED}
    if groups != rows:
        expected["dw_gen.kernel_conv.weight"][0] = f"a divisor of {channels}"
    _check(theirs, expected, file)
    model.to_empty(device=available(device))
    model.load_state_dict({name: theirs[_their_name(name)] for name in model.state_dict()})
    model.preprocessing = Preprocessing(SIZE, None)
    return model.eval()


def save_released(model: DMF, path: Path | str, acc: float = 0.0, epoch: int = 0) -> None:
    """Write `model` as the released code reads it, PyTorch 1.4 included.

    Args:
        model: a ResNet-12 without its last pooling, all that shapes its scores as in ``"released"``. Their code fixes
            64-160-320-640 channels; a thinner one fits the format, and `load_released`.
        path: by their custom ends in ``.pth.tar``.

    Raises:
        ValueError: the released code could not compute what the model computes; says why.
    """
    checks.kind("model", model, DMF, "a labkit.DMF")
    acc, epoch = checks.finite("acc", acc), checks.check_int("epoch", epoch, least=0)
    released = PRESETS["released"]
    reasons = [
        f"{name} is {value!r} (released: {getattr(released, name)!r})"
        for name, value in vars(model.choices).items()
        if name not in OF_TRAINING and value != getattr(released, name)
    ]
    if model.backbone_name != "resnet12" or model.backbone_options.get("last_pool"):
        reasons.append("its backbone is not a ResNet-12 without the last pooling")
    if reasons:
        raise ValueError(f"the released code cannot hold this model: {'; '.join(reasons)}")
    state = {_their_name(name): value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    state |= {key: state["base.layer3.0.num_batches_tracked"].clone() for key in UNUSED}
    buffer = io.BytesIO()
    content = {"state_dict": state, "acc": acc, "epoch": epoch}
    torch.save(content, buffer, _use_new_zipfile_serialization=False)  # the zipped form came with PyTorch 1.6
    write_atomically(checks.path("path", path), buffer.getvalue())


def _state_of(content: Any, file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, wherever in it they lie, under the names that the released code gives them."""
    states = {where: state for where, state in _nested(content, "") if state}
    ours = {where: state for where, state in states.items() if any(NETWORK.search(key) for key in state)}
    if len(ours) > 1:
        ours = {where: state for where, state in ours.items() if where.split(".")[-1] in NESTS} or ours
    if len(ours) > 1:
        raise ValueError(f"{file} holds several networks, {', '.join(map(repr, ours))}: save the one that is meant")
    if ours or states:
        return _plain_names(max((ours or states).values(), key=len))
    found = f"a {type(content).__name__}"
    if isinstance(content, Mapping):
        kinds = ("dict" if isinstance(value, Mapping) else type(value).__name__ for value in content.values())
        keys = [f"{key!r} (a {kind})" for key, kind in zip(content, kinds, strict=True)]
        found = few(keys, LISTED)
    raise ValueError(f"{file} holds no state dict: names with tensors were expected, and there is {found or 'nothing'}")


def _nested(content: Any, where: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary in a checkpoint that holds tensors by name, with the keys that lead to it."""
    if isinstance(content, list | tuple):  # (state dict, epoch), as some save it
        content = dict(enumerate(content[:LISTED]))
    if not isinstance(content, Mapping) or depth > DEPTH:
        return
    yield where, {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    for key, value in content.items():
        yield from _nested(value, f"{where}.{key}".lstrip("."), depth + 1)


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what DataParallel and torch.compile put into names, and without a prefix of all the rest."""
    plain = {WRAPPERS.sub("", key): value for key, value in state.items()}
    starts = Counter(key[: found.start(1)] for key in plain if (found := NETWORK.search(key)))
    prefix = starts.most_common(1)[0][0] if starts else ""
    return {key.removeprefix(prefix): value for key, value in plain.items()}


def _size(theirs: Mapping[str, Tensor], told_by: Mapping[str, int], usual: int) -> int:
    """A size of the network: what most of the tensors that tell it say, `usual` where none is there."""
    shapes = [(theirs[key].shape, dim) for key, dim in told_by.items() if key in theirs]
    told = [shape[dim] for shape, dim in shapes if dim < len(shape) and shape[dim] > 0]
    return mode(told) if told else usual


def _width(theirs: Mapping[str, Tensor], channels: int) -> float:
    """The width of a `ResNet12` whose four layers, each rounded by itself, have the file's numbers of channels.

    Where no width has them all, that of the last layer's `channels`: the others are then reported as misshapen.
    """
    low, high = 0.0, math.inf
    whole = RESNET12_CHANNELS[-1]
    for layer, full in enumerate(RESNET12_CHANNELS, start=1):
        told_by = {f"base.layer{layer}.0.{name}.weight": 0 for name in ("conv2", "conv3", "bn3")}
        size = channels if full == whole else _size(theirs, told_by, 0)
        if size:  # 4 channels are the least that a layer has
            low, high = max(low, (size - 2) / full if size > 4 else 0), min(high, (size + 2) / full)
    plain = channels / whole
    return plain if low < plain < high or low >= high else (low + high) / 2


def _their_name(ours: str) -> str:
    name = re.sub(r"^backbone\.(layer\d)\.", r"base.\1.0.", ours)
    name = name.replace(".drop.batches", ".num_batches_tracked").replace("global_classifier", "global_clasifier")
    return name.replace("offset_conv", "dw_gen.off_conv").replace("filter_conv", "dw_gen.kernel_conv")


def _check(theirs: Mapping[str, Tensor], expected: Mapping[str, list[int | str]], file: Path) -> None:
    wrong = [f"missing {key}, {shape} expected" for key, shape in expected.items() if key not in theirs]
    wrong += [
        f"unexpected {key} {list(value.shape)}, nothing of that name expected"
        for key, value in theirs.items()
        if key not in expected
    ]
    wrong += [
        f"{key} has shape {list(theirs[key].shape)}, {shape} expected"
        for key, shape in expected.items()
        if key in theirs and list(theirs[key].shape) != shape
    ]
    if wrong:
        raise ValueError(f"{file} does not fit:\n  " + "\n  ".join(wrong))
