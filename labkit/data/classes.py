"""What labels and names of classes must be, of pictures and of feature maps alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from labkit.common import checks
from labkit.common.errors import printable
from labkit.common.names import read_alike, shown


def check_classes(
    labels: Any, count: int, class_names: Sequence[Any], categories: Sequence[Any] | None, where: str
) -> None:
    """Refuse classes that an `ImageSet` cannot have.

    Args:
        labels: to be whole numbers [n], from 0.
        count: n.
        class_names: one a label.
        categories: one a class, or None.
        where: what the pictures are called, for the message.

    Raises:
        TypeError: labels that are no array, or names that are no text.
        ValueError: another number of them, a label without a name, a class without an image, names that read alike.
    """
    checks.kind("labels", labels, np.ndarray, "a NumPy array")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be whole numbers [n], got {labels.dtype} {list(labels.shape)}")
    if len(labels) != count:
        raise ValueError(f"{count} images but {len(labels)} labels")
    if count == 0:
        raise ValueError(f"{where} holds no image")
    for name in class_names:
        checks.text("a class name", name)
        if name != printable(name):
            raise ValueError(f"class names must be text that UTF-8 can hold, got {name!r}")
    if alike := read_alike(class_names):
        raise ValueError(f"two classes have names that read alike: {', '.join(shown(alike))}; rename or join them")
    least, most = int(labels.min()), int(labels.max())
    if least < 0:
        raise ValueError(f"labels must be from 0 to {len(class_names) - 1}, got {least}")
    if most >= len(class_names):  # before they are counted: that takes as much memory as the largest says
        raise ValueError(f"label {most} but only {len(class_names)} class names")
    counts = np.bincount(labels, minlength=len(class_names))
    if not counts.all():
        raise ValueError(f"class {class_names[int(counts.argmin())]!r} holds no image")
    for category in categories or ():
        checks.text("a category", category)
    if categories is not None and len(categories) != len(class_names):
        raise ValueError(f"{len(categories)} categories for {len(class_names)} classes")
