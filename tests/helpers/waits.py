"""What would make the host wait for a GPU, seen on a processor: operations whose result the host must look at."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

LOOKS = (
    "_local_scalar_dense",  # item, float, int, bool, and a branch on a tensor
    "nonzero",
    "is_nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "equal",
    "bincount",
    "repeat_interleave.Tensor",
)
MOVES = ("cpu", "numpy", "tolist", "__array__")


class WaitError(AssertionError):
    """The host looked at a tensor."""


class _Dispatched(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        if name.startswith(LOOKS):
            raise WaitError(f"{func} makes the host wait for a GPU")
        if name.startswith("index") and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool
            for i in (args[1] if isinstance(args[1], list | tuple) else ())
        ):
            raise WaitError(f"{func} by a mask makes the host wait: how many there are is data")
        return func(*args, **(kwargs or {}))


class _Called(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        to_cpu = name == "to" and any(str(a) == "cpu" for a in (*args[1:], *(kwargs or {}).values()))
        if name in MOVES or to_cpu:
            raise WaitError(f"Tensor.{name} makes the host wait for a GPU")
        if func is F.one_hot and (len(args) > 1 or kwargs):  # looks at its input on a processor only
            with torch.utils._python_dispatch._disable_current_modes():
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class no_waits:
    """Context: raises `WaitError` where the host would wait."""

    def __enter__(self) -> None:
        self.modes = [_Dispatched(), _Called()]
        for mode in self.modes:
            mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(*error)
