"""How long a training step takes at the least: operations over the rate, bytes over the bandwidth, part by part.

The backbone's are counted on torch's "meta" device, where nothing is computed. Bytes are those of an unfused program,
in which every operation reads its inputs from memory and writes its results back; `torch.compile` joins operations, so
the true number is lower. An estimate, not a measurement: `dmf-lab gpu` prints it before it measures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from labkit.training.loop import build_model
from labkit.training.settings import Experiment

STATED = 989e12  # bfloat16 operations a second of an H100 SXM, dense, by NVIDIA's data sheet
REACHED = 790e12  # of those, what large matrix products were measured to reach
FLOAT32 = 67e12  # float32 operations a second outside tensor cores, by the data sheet: the head's
BANDWIDTH = 3.35e12  # bytes a second of its memory, by the data sheet
VIEWS = ("view", "expand", "permute", "transpose", "t.", "slice", "select", "unsqueeze", "squeeze", "split", "detach")


@dataclass(frozen=True)
class Part:
    """Work of a step: floating-point operations, bytes, and the operations that a second may hold."""

    name: str
    flops: float
    bytes: float
    rate: float = FLOAT32

    @property
    def computing(self) -> float:
        """Seconds, if bytes took no time."""
        return self.flops / self.rate

    @property
    def moving(self) -> float:
        """Seconds, if operations took no time."""
        return self.bytes / BANDWIDTH


class _Bytes(TorchDispatchMode):
    """Bytes of every operation's inputs and results, without those that only look at a tensor otherwise."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not str(func).removeprefix("aten.").removeprefix("_").startswith(VIEWS):
            tensors = [t for t in tree_leaves((args, kwargs, made)) if isinstance(t, Tensor)]
            self.total += sum(t.numel() * t.element_size() for t in tensors)
        return made


def parts_of_a_step(e: Experiment, classes: int = 64) -> list[Part]:
    """Operations and bytes of one training step of an experiment, by part, backward passes included."""
    supports, queries = [e.batch, e.way, e.shot, 3, e.size, e.size], [e.batch, e.way * e.query, 3, e.size, e.size]
    with torch.device("meta"):
        model = build_model(e, classes, 0).train()
        backbone = model.backbone.to("meta", torch.bfloat16)
        images = torch.empty(math.prod(supports[:3]) + math.prod(queries[:2]), 3, e.size, e.size, dtype=torch.bfloat16)
        embedding = _counted("backbone", REACHED, lambda: backbone(images).float().sum())
        shape = backbone(images[:2]).shape[1:]
    with torch.random.fork_rng(devices=[]):
        # The head is small, and is run: autocast, which it turns off, knows no "meta" device.
        model = build_model(e, classes, 0).train()
        maps = [torch.randn(*lead, *shape, requires_grad=True) for lead in (supports[:-3], queries[:-3])]
        labels, base = (torch.zeros(queries[:2], dtype=torch.int64) for _ in range(2))
        vars(model)["embed_together"] = lambda *_: maps  # the maps are given: only the head is counted
        support, query = torch.empty(supports), torch.empty(queries)
        head = _counted("head and losses", FLOAT32, lambda: model.loss(support, query, labels, base).total)
    weights = sum(p.numel() for p in model.parameters())
    pixels = images.numel()
    return [
        # uint8 read, float written; shift, jitter (three passes), erasing and normalisation each read and write it
        Part("episodes and augmentation", 30.0 * pixels, pixels * (1 + 4 + 6 * 8)),
        embedding,
        head,
        Part("optimiser", 6.0 * weights, weights * 4.0 * 5),  # weight, gradient, momentum read; two of them written
    ]


def _counted(name: str, rate: float, forward: Callable[[], Tensor]) -> Part:
    with _Bytes() as moved, FlopCounterMode(display=False) as counter:
        forward().backward()
    return Part(name, counter.get_total_flops(), moved.total, rate)


def lines(e: Experiment) -> list[str]:
    """The estimate of an experiment as text, a line a part."""
    parts = parts_of_a_step(e)
    text = [
        f"Estimate, not measured: {e.name}, {e.steps} steps of {e.batch} episodes on an H100 "
        f"({STATED / 1e12:.0f} TFLOP/s stated in bfloat16, {REACHED / 1e12:.0f} reached by matrix products; "
        f"{BANDWIDTH / 1e12:.2f} TB/s)"
    ]
    for part in parts:
        minutes = [e.steps / 60 * v for v in (part.computing, part.moving)]
        text.append(
            f"  {part.name:<26} {part.flops * e.steps:.2e} operations {minutes[0]:6.2f} min   "
            f"{part.bytes * e.steps:.2e} bytes {minutes[1]:6.2f} min"
        )
    least = e.steps / 60 * sum(part.computing for part in parts)
    most = e.steps / 60 * sum(max(part.computing, part.moving) for part in parts)
    text.append(
        f"  in all {sum(p.flops for p in parts) * e.steps:.2e} operations: {least:.1f} min if bytes took no time, "
        f"{most:.1f} min if every operation goes to memory"
    )
    return text
