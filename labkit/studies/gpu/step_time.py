"""The time of the flagship's own training step: which compiler makes it shortest, and on what it is spent."""

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from labkit.studies.gpu.works import SpeedSetting
from labkit.training.loop import build_model
from labkit.training.run import GROUP
from labkit.training.step import GRAPHS, LOSS_ALONE, seconds_of_steps, trial

ALIKE = 0.02  # relative: what rounding in bfloat16 may do to the first losses
PROFILED = 5  # steps
LONGEST = 20  # kernels that are named

# Kinds of kernels by what their names hold, the first that fits.
KINDS = {
    "convolutions and matrix products": (
        "conv",
        "gemm",
        "cutlass",
        "cudnn",
        "nvjet",
        "xmma",
        "wgrad",
        "dgrad",
        "aten::mm",
    ),
    "joined by the compiler": ("triton",),
    "optimiser and gradient norms": ("multi_tensor", "foreach"),
    "copies": ("memcpy", "memset", "copy"),
}


def compilers(setting: SpeedSetting) -> dict[str, Any]:
    """Seconds of a step with inductor, with CUDA graphs on top, and with inductor but for the preparation of pictures.

    The losses of the first steps are compared.

    Returns:
        for each compiler ``seconds``, of a step, or its ``error``; ``largest_difference`` of a first loss, relative;
        ``fastest``, of those that work and agree with the first.
    """
    names = ("inductor", GRAPHS, LOSS_ALONE) if setting.device == "cuda" else ("eager",)  # in a rehearsal
    found: dict[str, Any] = {}
    losses: dict[str, Tensor] = {}
    for name in names:
        try:
            with _flagship(setting, name) as step:
                started = time.perf_counter()
                losses[name] = torch.stack([step()[0] for _ in range(GROUP)]).cpu()
                ready = time.perf_counter() - started
                times = seconds_of_steps(step, 2 * GROUP, warm_up=1)
        except Exception as error:  # a compiler that fails is one that is not taken
            found[name] = {"error": f"{type(error).__name__}: {f'{error}':.500}"}
            continue
        found[name] = {"seconds": statistics.median(times), "first_steps_took": ready}
    first = next(iter(losses.values()), torch.empty(0))
    apart = {name: float(((loss - first) / first).abs().max()) for name, loss in losses.items()}
    works = [name for name in losses if apart[name] < ALIKE]
    fastest = min(works, key=lambda name: found[name]["seconds"], default=None)
    return found | {"largest_difference": apart, "fastest": fastest}


def profiled(setting: SpeedSetting) -> dict[str, Any]:
    """How the time of a step divides into kinds of kernels, and the longest kernels by name.

    Returns:
        ``seconds`` of a step, ``busy`` of them (the sum over kernels), ``kinds`` and ``longest``: seconds of a step.
    """
    cuda = setting.device == "cuda"
    with _flagship(setting, "auto" if cuda else None) as step:
        seconds = statistics.median(seconds_of_steps(step, GROUP, warm_up=GROUP if cuda else 1))
        with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as seen:
            for _ in range(PROFILED):
                totals = step()
            float(totals[0])
    spent: Counter[str] = Counter()
    for event in seen.key_averages():
        if not cuda:
            spent[event.key] += event.self_cpu_time_total
        elif event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False):
            spent[event.key] += event.self_device_time_total  # of a kernel; what called it is counted with it once more
    each = {name: micro / 1e6 / PROFILED for name, micro in spent.most_common() if micro > 0}
    kinds: dict[str, float] = defaultdict(float)
    for name, taken in each.items():
        kinds[_kind(name)] += taken
    return {
        "seconds": seconds,
        "busy": sum(each.values()),
        "kinds": dict(kinds),
        "longest": dict(list(each.items())[:LONGEST]),
    }


def _flagship(setting: SpeedSetting, compiler: str | None) -> AbstractContextManager[Callable[[], Tensor]]:
    """Steps of the flagship's training from its initial weights; see `labkit.training.step.trial`."""
    base = setting.images("train")
    model = build_model(setting.experiment, len(base.class_names), 0)
    return trial(model, setting.experiment, base, setting.device, compiler)


def _kind(kernel: str) -> str:
    name = kernel.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "others")
