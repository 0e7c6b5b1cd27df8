"""Files of torch.save, read as torch reads them."""

import collections
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labkit.torch_files import STORAGES, read_torch

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
