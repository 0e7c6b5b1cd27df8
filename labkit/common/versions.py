"""What a result was computed with."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("torch", "torchvision", "torchdiffeq", "POT", "numpy", "pillow", "matplotlib")


def versions() -> dict[str, str]:
    """Releases of Python and of every package that can move a number; recorded with every result."""
    found = {"python": platform.python_version(), "labkit": metadata.version("dmf-lab")}
    return found | {name: metadata.version(name) for name in PACKAGES}
