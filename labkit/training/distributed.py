"""Training on several devices and machines: the episodes of a step are dealt out, their gradients averaged.

The engine is torch's own, DistributedDataParallel in processes that torchrun's launcher starts: nothing more to
install, and the loop of `labkit.training` stays the one loop, which on a single device never meets any of it.
(Lightning Fabric would wrap these same two, and be one more thing to know.)

Two things would make four processes with an episode each differ from one process with four, and are taken care of.
Dropout is seeded by episode, not by process (`labkit.noise`). And batch normalisation, in the released code and here,
takes its statistics over all episodes of a step: `SynchronisedBatchNorm` adds them up over the processes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from labkit.interrupts import handlers_kept


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; the first writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def under_torchrun() -> bool:
    """Whether a launcher started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def available(device: torch.device | str) -> torch.device:
    """A device by its name, if this machine has it.

    Raises:
        ValueError: it has not, or there is no such name.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:1', got {device!r} ({error})") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        there = f"only {torch.cuda.device_count()}" if torch.cuda.is_available() else "no GPU"
        raise ValueError(f"device {str(device)!r} was asked for, and PyTorch finds {there} here: pass device='cpu'")
    return found


@contextmanager
def joined(device: torch.device, devices: int, nodes: int) -> Iterator[torch.device]:
    """Meet the other processes, if there are any, for the time of the block; gives this process's own device.

    Raises:
        ValueError: the launcher started another number of processes than `devices` x `nodes`.
    """
    if not under_torchrun() or dist.is_initialized():
        yield device
        return
    started = int(os.environ["WORLD_SIZE"])
    if started != devices * nodes:
        raise ValueError(f"{started} processes were started, but devices={devices} x nodes={nodes} were asked for")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def launch(function: Callable[..., Any], arguments: tuple[Any, ...], devices: int) -> None:
    """Call ``function(*arguments)`` in `devices` processes of this machine, as torchrun would; waits for all.

    Both must be importable and picklable; a notebook may call it. What a process raises is printed and raised here.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        start_method="spawn",
    )
    with handlers_kept():  # torch leaves its own behind: an interrupt would no longer be a KeyboardInterrupt
        elastic_launch(config, function)(*arguments)


def mean(value: Tensor) -> Tensor:
    """The mean of a tensor over the processes, on all of them."""
    if world() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / world()


def wait() -> None:
    """Until all processes are here."""
    if world() > 1:
        dist.barrier()


def replicated(module: nn.Module, device: torch.device) -> nn.Module:
    """`module` with its gradients averaged and its batch statistics added up over the processes; alone, itself."""
    if world() == 1:
        return module
    for part in module.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = SynchronisedBatchNorm  # same parameters, same buffers, another forward
    ids = [device.index] if device.type == "cuda" else None
    # Without alignment the filter's parameters get no gradient.
    return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes, on CPUs as on GPUs (torch's own refuses CPU tensors).

    Mean and then variance are added up by a sum that has a gradient; every process must bring as many images.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world() == 1 or self.momentum is None:
            return super().forward(input)
        x = input.to(self.weight.dtype)  # of which bfloat16 would lose the digits
        count = world() * x.numel() / x.shape[1]
        centre = _SumOverProcesses.apply(x.sum((0, 2, 3))) / count
        variance = _SumOverProcesses.apply((x - centre[:, None, None]).square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1  # type: ignore[operator, assignment]
            self.running_mean.lerp_(centre, self.momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)  # type: ignore[union-attr]
        scale = self.weight / (variance + self.eps).sqrt()
        shift = self.bias - centre * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(input.dtype)


def put(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array on `device`, without making the host wait for a GPU."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def by_reference(array: NDArray[Any]) -> Any:
    """What to pickle for an array: where it lies, if it is a memory-mapped file as a whole, or itself."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.flags.c_contiguous:
        return _Mapped(str(array.filename), array.dtype.str, array.shape, array.offset)
    return array


class _Mapped:
    """Unpickles as the memory map it describes, so that processes share a file's pages instead of copies."""

    def __init__(self, *where: Any) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        return _reopen, self.where


def _reopen(filename: str, dtype: str, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
    return np.memmap(filename, dtype=dtype, mode="r", offset=offset, shape=shape)
