"""Forecast what a training will cost, before any has been run.

Work is counted, not guessed: floating-point operations, and the bytes that autograd keeps, of the backbone on torch's
"meta" device, where nothing is computed. (The head adds 5 % to a step of DMF: `results/speed_cpu.json`.) How fast a
device does that work is measured, where the speed was measured on one of its kind. No GPU has been: until then
every time on a GPU rests on `ASSUMED`, which each forecast quotes.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from labkit.common import places
from labkit.methods.backbones import BACKBONES
from labkit.sweeps.forecast import Cost, forecast
from labkit.training.settings import Experiment, experiment

RESULTS = places.RESULTS
# Images of the validation and of the novel classes, which evaluation embeds once each time.
SPLITS = {"miniimagenet": (16 * 600, 20 * 600), "tieredimagenet": (124_261, 206_209)}


@dataclass(frozen=True)
class Rate:
    """How much work a device does: floating-point operations a second, and how that is known."""

    flops: float
    source: str


ASSUMED = Rate(
    0.1 * 989e12, "an assumption: a GPU at a tenth of the 989e12 flop/s that NVIDIA states for an H100 in bfloat16"
)


def training_cost(e: Experiment, rate: Rate | None = None, device: str = "cpu") -> Cost:
    """The cost of a training with its validations and one test on the novel classes.

    Memory is weights, gradient, momentum and what autograd keeps; a process takes about a quarter more (7.4 GB were
    seen where 5.9 are counted, a step of mini-1shot in float32). A thin backbone does less work a second than the
    paper's, on which the rate was measured or assumed: its time may be twice the forecast, and Conv-4's on a GPU more.

    Args:
        e: on miniImageNet or tieredImageNet; elsewhere evaluation is left out.
        rate: of the device; by default the one of `measured`.
        device: ``"cpu"`` or ``"cuda"``.
    """
    rate = rate or measured(device, e.bfloat16)
    options = tuple(sorted(e.backbone_options.items()))
    work, kept, weights = work_of_an_image(e.backbone, options, e.size)
    images = e.batch * e.way * (e.shot + e.query)
    validation, novel = SPLITS.get(e.dataset, (0, 0))
    looked_at = -(-e.steps // e.validate_every) * validation + novel
    memory = kept * images * (0.5 if e.bfloat16 else 1) + 12 * weights  # weights, gradient, momentum
    seconds = (e.steps * images * work + looked_at * work / 3) / rate.flops  # backward is twice forward
    return Cost(seconds, memory, 12 * weights, rate.source)  # the best, the last and its momentum


def measured(device: str = "cpu", bfloat16: bool = False) -> Rate:
    """The rate measured on a device of this kind (`results/speed_*.json`), or `ASSUMED` if none was measured."""
    file = RESULTS / f"speed_{'gpu' if device == 'cuda' else device}.json"  # as notebook 10 calls them
    if not file.exists():
        return ASSUMED
    step = json.loads(file.read_text())["step"]
    seconds = statistics.median(step["seconds"]["fast, bfloat16" if bfloat16 else "fast"])
    e = experiment("mini-1shot")
    work = work_of_an_image(e.backbone, (), e.size)[0] * e.batch * e.way * (e.shot + e.query)
    where = (
        f"{step['made']['threads']} threads of {step['made']['device']}" if device == "cpu" else step["made"]["device"]
    )
    return Rate(work / seconds, f"a step of {seconds:.3g} s of mini-1shot, measured on {where}")


@lru_cache
def work_of_an_image(backbone: str, options: tuple[tuple[str, Any], ...], size: int) -> tuple[float, float, int]:
    """Operations of a training step and bytes that autograd keeps (float32), for one image; and the weights' number."""
    with torch.device("meta"):
        network = BACKBONES[backbone](**dict(options))
        images = torch.empty(2, 3, size, size)
    kept: dict[int, int] = {}
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)  # or another could be given its identity
        kept[id(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            features = network(images)
        features.sum().backward()
    weights = sum(p.numel() for p in network.parameters())
    return counter.get_total_flops() / 2, (sum(kept.values()) - 4 * weights) / 2, weights


def announce(e: Experiment, device: str, devices: int = 1) -> None:
    """Print the forecast of a training that will take more than an hour."""
    cost = training_cost(e, device=device)
    if cost.seconds / devices > 3600:
        print(forecast([replace(cost, seconds=cost.seconds / devices)], 1), flush=True)
