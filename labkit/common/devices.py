"""Devices by name, and arrays moved onto them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


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
    if found.type in ("cpu", "cuda"):  # not tried: it would take memory of the first GPU in every process
        return found
    try:
        torch.empty(1, device=found).cpu()
    except Exception as error:  # each kind of device that is not there raises something of its own
        raise ValueError(f"device {str(device)!r} was asked for, and PyTorch cannot use it here: {error}") from None
    return found


def put(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array on `device`, without making the host wait for a GPU."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile: sums depend on how they are split, and small maps gain nothing from more.

    Where other programs use the cores too, two threads that wait for each other are many times slower than one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def memory_explained(lower: str) -> Iterator[None]:
    """End a command with one sentence instead of a traceback where the GPU's memory does not suffice.

    Args:
        lower: what takes less memory, for example ``"batch or query"``.

    Raises:
        SystemExit: with that sentence, in place of `torch.OutOfMemoryError`.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        asked = re.search(r"[Tt]ried to allocate [\d.]+ \w+", f"{error}")
        more = f" ({asked[0].lower()[:1]}{asked[0][1:]})" if asked else ""
        raise SystemExit(f"The GPU's memory does not suffice{more}: lower {lower}.") from None
