"""Training on several devices and machines: the episodes of a step are dealt out, their gradients averaged.

The engine is torch's own, DistributedDataParallel in processes that torchrun's launcher starts: nothing more to
install, and the loop of `labkit.training.loop` stays the one loop, which on a single device never meets any of it.
(Lightning Fabric would wrap these same two, and be one more thing to know.)

Two things would make four processes with an episode each differ from one process with four, and are taken care of.
Dropout is seeded by episode, not by process (`labkit.methods.noise`). And batch normalisation, as released,
takes its statistics over all episodes of a step: `SynchronisedBatchNorm` adds them up over the processes.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any, ParamSpec

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from labkit.common.interrupts import handlers_kept

P = ParamSpec("P")


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; the first writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


# All that the first process does alone, and all that the others leave out, is said by one of these three.


def leads() -> bool:
    """Whether this is the first process: the one that shows and writes."""
    return rank() == 0


def first_only(function: Callable[P, None]) -> Callable[P, None]:
    """Decorator: the first process does it, in the others the call does nothing."""

    @wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> None:
        if leads():
            function(*arguments, **options)

    return called


def entered_first(context: Callable[[], AbstractContextManager[Any]]) -> AbstractContextManager[Any]:
    """A context that only the first process enters."""
    return context() if leads() else nullcontext()


def share(numbers: Sequence[int]) -> Sequence[int]:
    """This process's part of what a step takes, of which every process has as many."""
    own = len(numbers) // world()
    return numbers[rank() * own : (rank() + 1) * own]


def under_torchrun() -> bool:
    """Whether a launcher started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


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
    """Wait until all processes have come to this call."""
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
