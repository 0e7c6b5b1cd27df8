"""Files of torch.save, read as torch reads them."""

import collections
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labkit.common.torch_files import STORAGES, read_torch

FILE = Path("some.pt")


def saved(value: Any, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b) and a.stride() == b.stride()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_torch_reads(zipped: bool) -> None:
    shared = torch.arange(24.0).reshape(2, 3, 4)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    net(torch.randn(2, 3, 5, 5)).sum().backward()
    optimiser.step()
    value = {
        "kinds": [torch.ones(3).to(dtype) for dtype in STORAGES.values()],
        "views": (shared, shared[:, 1], shared.mT, shared[1, 2, 3], torch.zeros(0, 5)),
        "model": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "parameter": torch.nn.Parameter(torch.randn(2)).detach(),
        "plain": [None, True, 3, -(2**40), 0.5, "text", b"bytes", collections.OrderedDict(a=1)],
    }
    content = saved(value, zipped)
    read = read_torch(content, FILE)
    assert same(read, torch.load(io.BytesIO(content), weights_only=True))
    read["views"][0][0, 1, 0] = -1.0
    assert read["views"][1][0, 0] == -1  # views share their storage, as they did


def test_numpy_scalars_and_parameters() -> None:
    read = read_torch(saved({"acc": np.float64(0.5), "weight": torch.nn.Parameter(torch.ones(2))}, False), FILE)
    assert read["acc"] == 0.5
    assert torch.equal(read["weight"], torch.ones(2))


def changed(**members: bytes) -> bytes:
    """A file of one tensor of 5 numbers, some of whose members are others."""
    out, content = io.BytesIO(), saved({"w": torch.arange(5.0)}, True)
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.split("/", 1)[1].replace("/", "_"), old.read(name)))
    return out.getvalue()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"data_0": bytes(16)}, "20 bytes of numbers where it has 16"),  # shorter than its storage
        ({"data_0": bytes(24)}, "20 bytes of numbers where it has 24"),
        ({"byteorder": b"big"}, "another byte order"),
        ({"data.pkl": b"\x80\x02(X\x07\x00\x00\x00storageNNNNtQ."}, "a storage without a name, a type or a length"),
        ({"data.pkl": b"\x80\x02(K\x01tQ."}, "something outside the file"),
    ],
    ids=["shorter", "longer", "order", "nameless storage longer", "outside"],
)
def test_files_that_contradict_themselves_are_refused(members: dict[str, bytes], said: str) -> None:
    assert torch.equal(read_torch(changed(), FILE)["w"], torch.arange(5.0))
    with pytest.raises(ValueError, match=f"some.pt is not a checkpoint .* asks for {said}"):
        read_torch(changed(**members), FILE)


def test_files_of_another_machine_and_other_files_are_refused() -> None:
    content = saved({"w": torch.arange(5.0)}, False)
    for broken in (content.replace(b"little_endian", b"little_ending"), b"", b"PK", content[:-3], content[:200]):
        with pytest.raises(ValueError, match=r"some\.pt is not a checkpoint"):
            read_torch(broken, FILE)
