"""The explorer opened on a data set: on photographs where a folder is given, else on rendered characters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.evaluation import chosen
from labkit.explorer.widget import Panel
from labkit.explorer.widget import explore as explore_pictures


def explore(
    weights: Sequence[str | Path] | str | Path | None = None,
    dataset: str | None = None,
    data_root: Path | str | None = None,
    **options: Any,
) -> Panel:
    """The explorer on novel classes of a data set::

        labkit.explore()                                               # shipped networks on rendered characters
        labkit.explore(data_root="/data/x")                            # on miniImageNet
        labkit.explore("best.safetensors", "miniimagenet", "/data/x")  # your own network

    Args:
        weights: shipped DMF networks by name, or files; None for what is shipped for these pictures.
        dataset: see `labkit.load_images`; None for miniImageNet where a folder is given, else for glyphs.
        data_root: folder of the pictures.
        options: of `labkit.explorer.widget.explore`: episodes, shots, query, seed, folder, search, view.

    Raises:
        ValueError: a network that the explorer does not show.
        FileNotFoundError, DataError: weights or pictures that are not there.
    """
    where = chosen.dataset_of(dataset, data_root)
    models = chosen.load_by_name(chosen.weights_of(weights, where))
    images = chosen.images_for(next(iter(models.values())), where, data_root)
    return explore_pictures(models, images, **options)
