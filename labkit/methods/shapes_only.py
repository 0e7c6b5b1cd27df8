"""Modules without memory: what a file describes is built as shapes first, and gets the tensors the file brought."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made in here have shapes but no memory, whatever their size, and draw no numbers to start from."""
    with torch.device("meta"), _NoDraws():
        yield


class _NoDraws(TorchFunctionMode):
    """Drawing numbers that nobody keeps would import most of torch's compiler, a second and more."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        drawn = func in (torch.Tensor.normal_, torch.Tensor.uniform_)
        return args[0] if drawn else func(*args, **kwargs or {})
