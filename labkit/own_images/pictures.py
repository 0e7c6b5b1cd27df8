"""Anyone's pictures, read as a network reads them; what cannot be read is named and skipped."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from labkit.common import checks
from labkit.common.errors import printable
from labkit.common.files import is_folder
from labkit.data.decode import RESAMPLINGS, explain, read_rgb, to_rgb
from labkit.data.left_out import is_litter
from labkit.episodes.preprocessing import Preprocessing

Source: TypeAlias = str | Path | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[np.uint8]
"""A path, the bytes of an image file or the file, opened, a Pillow image, or uint8 [h, w], [h, w, 3] or [h, w, 4]."""
Pictures: TypeAlias = Source | Sequence[Source] | Mapping[str, Source]
"""One or several pictures, perhaps by name; the path of a folder stands for the files in it."""
EXPECTED = "a picture or several: paths, bytes, open files, Pillow images or arrays (of a tensor its .numpy())"
Fit: TypeAlias = Literal["letterbox", "crop"]
UNEQUAL = 3  # times as many pictures of a class as of another, above which something is to be said
ONE = (str, Path, bytes, bytearray, memoryview, Image.Image, np.ndarray)  # picture, and no series of them


def square(source: Source, kept: Preprocessing, fit: Fit = "letterbox") -> NDArray[np.uint8]:
    """One picture as a network reads it, uint8 [size, size, 3]: upright, over white, letterboxed or cropped.

    Raises:
        Exception: nearly anything; decoders of broken files are like that.
    """
    if isinstance(source, np.ndarray):
        colours = source.shape[2:] in ((), (3,), (4,))
        if source.dtype != np.uint8 or source.ndim < 2 or not colours or 0 in source.shape:
            expected = "uint8 [h, w], [h, w, 3] or [h, w, 4]"
            raise ValueError(f"pixels must be {expected}, got {source.dtype} {list(source.shape)}")
        source = Image.fromarray(source)
    image = to_rgb(source) if isinstance(source, Image.Image) else read_rgb(_file(source))
    # Rendered images were never resized, and say so; Lanczos is what resembles them most.
    name = kept.resampling if kept.resampling in RESAMPLINGS else "lanczos"
    resample, side, (w, h) = Image.Resampling[str(name).upper()], kept.size, image.size
    if fit == "crop":
        short = min(w, h)
        left, top = (w - short) // 2, (h - short) // 2  # cut first: a filter would look beyond the edge
        return np.asarray(image.crop((left, top, left + short, top + short)).resize((side, side), resample))
    width, height = (max(1, round(side * part / max(w, h))) for part in (w, h))
    bars = tuple(round(255 * v) for v in kept.mean)  # what the network reads as zero
    whole = Image.new("RGB", (side, side), bars)
    whole.paste(image.resize((width, height), resample), ((side - width) // 2, (side - height) // 2))
    return np.asarray(whole)


def _file(source: Any) -> Path | bytes:
    """The path of an image file, or its bytes."""
    if isinstance(source, str | Path):
        return checks.path("picture", source)
    if not hasattr(source, "read"):
        checks.kind("a picture", source, (bytes, bytearray, memoryview), "a path, bytes, a Pillow image or an array")
        return bytes(source)
    if isinstance(source, io.TextIOBase):
        raise TypeError('it was opened as text; open it with open(..., "rb")')
    if source.seekable():
        source.seek(0)  # somebody may have read, or just written it
    return bytes(source.read())


def read(
    pictures: Pictures, kept: Preprocessing, fit: Fit, what: str
) -> tuple[list[str], NDArray[np.uint8], dict[str, str]]:
    """Names and squares uint8 [n, size, size, 3] of what can be read, and by name why the rest cannot be.

    Pictures without a name of their own are called `what` and numbered from 1.
    """
    files, squares, skipped = [], [], {}
    for name, source in _named(pictures, what):
        try:
            squares.append(square(source, kept, fit))
            files.append(name)
        except Exception as error:  # decoders of broken files raise nearly anything
            skipped[name] = explain(error)
    return files, np.stack(squares) if squares else np.zeros((0, kept.size, kept.size, 3), np.uint8), skipped


def by_name(files: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """Files dropped in one heap, sorted into classes by name: ``cat 1.jpg``, ``cat-2.png``, ``cat(3).png`` are cats."""
    classes: dict[str, dict[str, bytes]] = {}
    for file, content in files.items():
        stem = Path(file).stem
        classes.setdefault(re.sub(r"[\s_.(-]*\d+\)?$", "", stem) or stem, {})[file] = content
    return classes


def class_folders(root: Path | str) -> dict[str, Path]:
    """The subfolders of a folder by name; files beside them are no class and are left alone.

    Raises:
        ValueError: no such folder.
    """
    folder = checks.path("support", _not_empty("support", root))
    if not is_folder(folder):
        raise ValueError(f"{folder} is no folder; expected one with a subfolder of pictures for each class")
    return {printable(p.name): p for p in visible(folder) if p.is_dir()}


def by_text(what: str, named: Mapping[Any, Any]) -> dict[str, Any]:
    """A mapping whose keys are text that UTF-8 can hold: numbers are written out, as a file or a figure would do.

    Raises:
        TypeError: a key that is neither text nor a number nor a path.
        ValueError: two keys that are one text, such as 1 and "1".
    """
    found: dict[str, Any] = {}
    for key, value in named.items():
        if not isinstance(key, str | Number | np.generic | Path):
            raise TypeError(f"{what} must be named by text, got {key!r}")
        name = printable(str(checks.plain(key)))
        if name in found:
            raise ValueError(f"two of the {what} are called {name!r}: {key!r} is the same text as another name")
        found[name] = value
    return found


def _named(pictures: Pictures, what: str) -> list[tuple[str, Source]]:
    if isinstance(pictures, Mapping):
        return list(by_text(f"pictures of {what!r}", pictures).items())
    if isinstance(pictures, str | Path) and is_folder(folder := checks.path(what, _not_empty(what, pictures))):
        pictures = visible(folder)
    one = isinstance(pictures, ONE) or hasattr(pictures, "read")
    if not one and (isinstance(pictures, torch.Tensor) or not isinstance(pictures, Iterable)):
        checks.kind(what, pictures, ONE, EXPECTED)
    several: list[Any] = [pictures] if one else list(cast(Iterable[Any], pictures))
    names = [Path(p).name if isinstance(p, str | Path) else f"{what} {i + 1}" for i, p in enumerate(several)]
    if len(set(names)) < len(names):  # files of one name from several folders
        names = [str(p) if isinstance(p, str | Path) else name for p, name in zip(several, names, strict=True)]
    return list(zip(map(printable, names), several, strict=True))


def _not_empty(what: str, path: Any) -> Any:
    """`path`, but for an empty text, which would stand for all that lies in the working folder."""
    if path == "":
        raise ValueError(f"{what} is an empty text; expected a path, '.' for the folder in which Python runs")
    return path


def visible(folder: Path | str) -> list[Path]:
    """What lies in a folder, but for hidden files and the litter that archives and file managers leave."""
    return sorted(p for p in Path(folder).iterdir() if is_visible(p.name))


def is_visible(name: str) -> bool:
    """Whether a file of this name is neither hidden nor litter."""
    return not name.startswith(".") and not is_litter(name)


def unequal(shots: Sequence[int]) -> str:
    """What is to be said of classes with these numbers of pictures; nothing where they are not far apart.

    With 1, 2, 3, 4 and 5 pictures of five novel classes of miniImageNet `mini-full` is right for 69.8 %, with three of
    each for 75.9 % (``calibration.json``).
    """
    if max(shots) <= UNEQUAL * min(shots):
        return ""
    return (
        f"classes have from {min(shots)} to {max(shots)} pictures: those with few will be answered too seldom and "
        "those with many too often; give each about as many"
    )
