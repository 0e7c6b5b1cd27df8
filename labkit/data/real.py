"""miniImageNet and tieredImageNet, whichever layout lies on the disk."""

from functools import partial
from pathlib import Path

from labkit.common.errors import DataError
from labkit.data import miniimagenet, tieredimagenet
from labkit.data.folders import real_root
from labkit.data.imageset import ImageSet
from labkit.data.layouts import recognise
from labkit.data.source import SPLITS, check_choice, load

LAYOUTS = {"miniimagenet": miniimagenet.LAYOUTS, "tieredimagenet": tieredimagenet.LAYOUTS}
CLASS_COUNTS = {
    "miniimagenet": {"train": 64, "val": 16, "test": 20},
    "tieredimagenet": {"train": 351, "val": 97, "test": 160},
}


def load_real(
    name: str,
    split: str,
    root: Path | str,
    *,
    size: int = 84,
    resampling: str = "bilinear",
    layout: str | None = None,
    channel_order: str | None = None,
    check_counts: bool = True,
    progress: bool = True,
) -> ImageSet:
    """One split of a known data set.

    Args:
        name: ``"miniimagenet"`` or ``"tieredimagenet"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        root: folder that holds the files of one or more layouts.
        size: side of the images in pixels; whole pictures are squashed into the square, see `decode`.
        resampling: filter of that resize, a name of `PIL.Image.Resampling`.
        layout: which layout, where several lie there.
        channel_order: ``"rgb"`` or ``"bgr"``, as the files hold the channels; None is RGB. The layout ``"npz"`` has no
            order of its own (copies written with OpenCV are BGR, others RGB), so there it must be given: look at a
            picture, skies are blue.
        check_counts: refuse a split without the number of classes it is known to have; False for subsets.

    Raises:
        DataError: no layout or several lie there, files are damaged, or the number of classes is wrong.
        ValueError: an argument has none of the allowed values.
    """
    check_choice("name", name, tuple(LAYOUTS))
    check_choice("split", split, SPLITS)
    folder = real_root(root)
    found, paths = recognise(name, LAYOUTS[name], folder, split, layout)
    if found.name == "npz" and channel_order is None:
        raise DataError(
            f"{paths[0]}: copies of this file differ in the order of their channels and nothing in it tells; "
            'pass channel_order="rgb" or "bgr" (look at a picture: skies are blue)'
        )

    return load(
        name,
        split,
        found.name,
        folder,
        found.files(folder, *paths),
        partial(found.read, folder, *paths),
        size=size,
        resampling=resampling,
        channel_order=channel_order or "rgb",
        expected=CLASS_COUNTS[name][split] if check_counts else None,
        progress=progress,
    )
