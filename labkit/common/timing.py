"""Time and memory of a piece of work, for benchmarks: forms in turn, so that a busy machine is slow for all of them."""

import ctypes
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch

from labkit.common.versions import versions


def seconds(work: Callable[[], Any], device: str) -> float:
    """Wall-clock seconds of one call, with the GPU synchronised before and after it."""
    if _on_gpu(device):
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if _on_gpu(device):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def alternate(forms: Mapping[str, Callable[[], Any]], runs: int, device: str) -> dict[str, list[float]]:
    """Seconds of every form, `runs` times in turn, after one call of each that does not count."""
    for work in forms.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(runs):
        for name, work in forms.items():
            times[name].append(round(seconds(work, device), 5))
    return times


def ratios(times: dict[str, list[float]], against: str = "literal") -> dict[str, float]:
    """How many times as fast as `against` each other form is, by medians."""
    median = {name: statistics.median(values) for name, values in times.items()}
    return {name: round(median[against] / median[name], 2) for name in times if name != against}


def peak_bytes(work: Callable[[], Any], device: str) -> int:
    """Memory that `work` takes at its peak, beyond what was in use before: of the process, or of the GPU."""
    if _on_gpu(device):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not Path("/proc/self/clear_refs").exists():
        raise NotImplementedError("the peak memory of a piece of work is measured on Linux and on GPUs only")
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not be there to be taken again, unseen
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak (Linux)
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def about(device: str) -> dict[str, Any]:
    """Date, device, threads and versions of a measurement."""
    name = torch.cuda.get_device_name(device) if _on_gpu(device) else _processor()
    return {"date": str(date.today()), "device": name, "threads": torch.get_num_threads(), "versions": versions()}


def _on_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
