"""A GPU that is only pretended: torch knows the shapes and devices of its tensors, and computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


@contextmanager
def pretended_gpu(monkeypatch) -> Iterator[None]:
    """Context: ``"cuda"`` is a device. An operation on tensors of two devices raises RuntimeError, as on a GPU."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda own: own)  # which torch's pretended tensors lack
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with FakeTensorMode():
        yield


def put_there(model: nn.Module, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Within the context: `model`, in place, and copies of `tensors` on the pretended GPU."""
    for part in model.modules():
        for name, own in part._parameters.items():
            if own is not None:
                part._parameters[name] = nn.Parameter(_there(own), own.requires_grad)
        for name, kept in part._buffers.items():
            if kept is not None:
                part._buffers[name] = _there(kept)
    return [_there(t) for t in tensors]


def _there(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
