"""Say before a long training how long it will take: its operations, counted, over the rate that was measured.

Counted are the backbone's, on torch's "meta" device, where nothing is computed; DMF's head does one eightieth.
The rate is that of a step of `mini-1shot` on a device of this kind (`results/speed_*.json`). A thin backbone does less
work a second, so its time may be twice the forecast; validation comes on top.
"""

import json
import statistics

import torch
from torch.utils.flop_counter import FlopCounterMode

from labkit.common import places
from labkit.methods.backbones import make_backbone
from labkit.studies.tables.cells import image_passes
from labkit.sweeps.forecast import duration
from labkit.training.settings import Experiment, experiment

RESULTS = places.RESULTS


def announce(e: Experiment, device: str, devices: int = 1) -> None:
    """Print how long a training will take, where that is known and more than an hour."""
    file = RESULTS / f"speed_{'gpu' if device == 'cuda' else device}.json"  # as notebook 10 calls them
    if not file.exists():
        return
    measured, reference = json.loads(file.read_text(encoding="utf-8"))["step"], experiment("mini-1shot")
    step = statistics.median(measured["seconds"]["fast, bfloat16" if e.bfloat16 else "fast"])
    seconds = step * reference.steps * operations(e) / operations(reference) / devices
    if seconds > 3600:
        by = f"a step of {step:.3g} s of mini-1shot, measured on {measured['made']['device']}"
        print(f"{e.steps} steps: about {duration(seconds)}, by {by}.", flush=True)


def operations(e: Experiment) -> float:
    """Floating-point operations of the backbone in all steps of a training.

    Raises:
        ValueError, TypeError: there is no such backbone, or it has no such option.
    """
    with torch.device("meta"):
        network, images = make_backbone(e.backbone, e.backbone_options), torch.empty(2, 3, e.size, e.size)
    with FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
    return float(image_passes(e) * counter.get_total_flops() / 2)
