"""What a result was computed with."""

import platform
from importlib import metadata

PACKAGES = (
    "torch",
    "torchvision",
    "torchdiffeq",
    "POT",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pillow",
    "matplotlib",
)


def versions() -> dict[str, str]:
    """Releases of Python and of every package that can move a number; recorded with every result."""
    own = _release("dmf-lab", "labkit")  # the name of its distribution, or that of its import
    return {"python": platform.python_version(), "labkit": own} | {name: _release(name) for name in PACKAGES}


def _release(*names: str) -> str:
    """The release of the first of these that is installed; a missing one must not cost anybody a result."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"
