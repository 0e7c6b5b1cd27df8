"""Weights in two files of at most 16 MB each (more for a larger network), and back: `save_parts` and `load_parts`.

They are a shipped model's file, in half precision, cut: ``cat NAME.safetensors.*-of-2`` makes it whole.
"""

import glob
import math
import tempfile
from pathlib import Path

from labkit.common.files import write_atomically
from labkit.methods.base import Method
from labkit.models.checkpoints import load_model, read_header, save_model

MOST_BYTES = 16_000_000  # of a file


def how_many(size: int) -> int:
    """Files for so many bytes: two, or as many as it takes."""
    return max(2, math.ceil(size / MOST_BYTES))


def save_parts(model: Method, source: Path, folder: Path, name: str) -> list[Path]:
    """Write a trained network as ``NAME.safetensors.1-of-2`` and so on.

    Args:
        model: as `load_model` read it from `source`, whose story is kept.
    """
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.safetensors"
        save_model(model, whole, read_header(source)["about"], half=True)
        content = whole.read_bytes()
    files = _files(folder, name, how_many(len(content)))
    size = math.ceil(len(content) / len(files))
    for i, file in enumerate(files):
        write_atomically(file, content[i * size : (i + 1) * size])
    return files


def load_parts(folder: Path, name: str) -> Method:
    """The network that `save_parts` wrote, on the CPU in evaluation mode.

    Raises:
        FileNotFoundError: there is no first part.
        ValueError: a part is missing, they do not belong together, or one is damaged.
    """
    first = next(iter(folder.glob(f"{glob.escape(name)}.safetensors.1-of-*")), None)
    if first is None:
        raise FileNotFoundError(f"{folder} holds no {name}.safetensors.1-of-2, as save_parts writes")
    files = _files(folder, name, int(first.name.rpartition("-")[2]))
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.safetensors"
        whole.write_bytes(b"".join(file.read_bytes() for file in files if file.exists()))
        try:
            return load_model(whole)
        except ValueError as error:
            raise ValueError(
                f"the files of {name} in {folder} are damaged, incomplete or of two networks: copy all again"
            ) from error


def _files(folder: Path, name: str, count: int) -> list[Path]:
    return [folder / f"{name}.safetensors.{i}-of-{count}" for i in range(1, count + 1)]
