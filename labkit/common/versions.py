"""What a result was computed with."""

import platform
from importlib import metadata

PACKAGES = ("torch", "torchvision", "torchdiffeq", "POT", "numpy", "pillow", "matplotlib")


def versions() -> dict[str, str]:
    """Releases of Python and of every package that can move a number; recorded with every result."""
    return {"python": platform.python_version(), "labkit": _own()} | {name: metadata.version(name) for name in PACKAGES}


def _own() -> str:
    """The lab's own release, under the name of its distribution or that of its import."""
    for name in ("dmf-lab", "labkit"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"
