"""The embedded benchmark `glyphs`: characters of matplotlib's fonts among clutter, rendered on first use."""

import hashlib
import multiprocessing
import shutil
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import PIL
from tqdm.auto import tqdm

from labkit.common import checks
from labkit.common.errors import DataError
from labkit.common.machine import cores, reserve
from labkit.common.processes import script_hidden, start_context
from labkit.data.cache import build_once, digest_of
from labkit.data.glyphs.classes import GlyphClass, font_digests, read_table
from labkit.data.glyphs.scene import DEFAULT, Difficulty, render
from labkit.data.imageset import ImageSet, Provenance, read_arrays, write_arrays
from labkit.data.source import MAX_SIZE

__all__ = ["DATASETS", "DEFAULT", "SPLITS", "Difficulty", "classes_of", "load_glyphs", "render"]

DATASETS = ("glyphs-mini", "glyphs-tiered")
SPLITS = ("train", "val", "test")
SAMPLE_DIGEST = "6ec7ee2e62ca6ab9"  # of `sample_digest`, where the published numbers were made
TIERED_BYTES = 3_000_000_000  # that the caches of the three splits of tiered may take together by default
SAMPLE_DIFFICULTY = Difficulty(4, 0.35, (0.4, 0.7), 0.6, 20.0, 0.15)  # fixed, whatever the default is
MUCH = 10**9  # bytes that a user may not have thought of
PARALLEL_FROM = 2000  # images; fewer are rendered sooner than a pool of processes starts


def classes_of(name: str, split: str) -> tuple[GlyphClass, ...]:
    """The classes of a split, in order of code point.

    Raises:
        ValueError: no such dataset or split.
    """
    if name not in DATASETS:
        raise ValueError(f"no dataset {name!r} among the rendered ones: {', '.join(DATASETS)}")
    if split not in SPLITS:
        raise ValueError(f"no split {split!r} in {name}: {', '.join(SPLITS)}")
    rows = read_table()[0]
    return tuple(r for r in rows if (r.mini_split if name == "glyphs-mini" else r.tiered_split) == split)


def load_glyphs(
    name: str,
    split: str,
    *,
    size: int = 84,
    seed: int = 0,
    per_class: int | None = None,
    difficulty: Difficulty = DEFAULT,
    progress: bool = True,
) -> ImageSet:
    """A split of `glyphs-mini` or `glyphs-tiered`, rendered into the cache unless it is there.

    Args:
        name: ``"glyphs-mini"`` (64, 16 and 20 classes) or ``"glyphs-tiered"`` (351, 97 and 160, in 34 categories).
        split: ``"train"``, ``"val"`` or ``"test"``.
        size: pixels of the image's side, 16 or more.
        seed: of every image; another seed is another set of images of the same classes.
        per_class: images a class; by default 600, of tiered as many as keep its three splits under 3 GB, at most 600.

    Warns:
        UserWarning: the fonts or Pillow draw other images than those that published numbers belong to.

    Raises:
        ValueError: unknown name or split, or a size, seed or number of images that cannot be.
        DataError: the disk of the cache has no room for them.
    """
    classes = classes_of(name, split)
    size = checks.check_int("size", size, least=16, most=MAX_SIZE)
    seed = checks.check_seed(seed)
    checks.kind("difficulty", difficulty, Difficulty, "a labkit.data.glyphs.load.Difficulty")
    if per_class is None:
        per_class = 600 if name == "glyphs-mini" else _tiered_per_class(size)
    per_class = checks.check_int("per_class", per_class)
    drawn = check_release()
    details = {"seed": seed, "per_class": per_class, "difficulty": asdict(difficulty), "sample": drawn}

    def build(folder: Path) -> None:
        needed, free = len(classes) * per_class * _bytes_of(size), shutil.disk_usage(folder).free
        if needed > max(free, MUCH):  # of less, a full disk says that it is full
            raise DataError(
                f"{name} {split} takes {needed / 1e9:.0f} GB with per_class={per_class} at {size} px, and where the "
                f"cache lies {free / 1e9:.0f} GB are free: ask for fewer or smaller images, or set $LABKIT_CACHE"
            )
        _render_all(
            folder, classes, per_class, size, seed, difficulty, f"{name} {split}, {size} px" if progress else ""
        )
        fonts = hashlib.sha256("".join(font_digests().values()).encode()).hexdigest()[:16]
        versions = {"pillow": PIL.__version__, "matplotlib": matplotlib.__version__, "fonts": fonts}
        digest = digest_of(folder / "pixels.npy")
        provenance = Provenance(name, split, "rendered", f"{size}x{size}", "none", digest, details | versions)
        labels = np.repeat(np.arange(len(classes)), per_class)
        write_arrays(folder, labels, [row.name for row in classes], [row.category for row in classes], provenance)

    recipe = {"characters": [(row.codepoint, row.faces) for row in classes], "size": size, **details}
    return read_arrays(build_once(f"{name}-{split}-{size}", recipe, build))


def _tiered_per_class(size: int) -> int:
    """As many images a class as keep the three splits of tiered under `TIERED_BYTES`, from 1 to 600."""
    classes = sum(len(classes_of("glyphs-tiered", split)) for split in SPLITS)
    return max(1, min(600, TIERED_BYTES // (classes * _bytes_of(size))))


def _bytes_of(size: int) -> int:
    """Of an image in the cache: pixels, mask and label."""
    return 3 * size * size + size * ((size + 7) // 8) + 8


@cache
def check_release() -> str:
    """`sample_digest` as rendered here; warns, once, where the fonts or Pillow differ from those of the benchmark."""
    expected = read_table()[1]
    other = [face for face, digest in font_digests().items() if digest != expected.get(face)]
    drawn = sample_digest()
    reasons = []
    if other:
        reasons.append(f"matplotlib {matplotlib.__version__} ships other releases of {', '.join(other)}")
    if drawn != SAMPLE_DIGEST:
        reasons.append(f"Pillow {PIL.__version__} renders the sample as {drawn}, not as {SAMPLE_DIGEST}")
    if reasons:
        text = "; ".join(reasons)
        warnings.warn(f"glyphs differ here from those that published numbers were made with: {text}", stacklevel=3)
    return drawn


def sample_digest() -> str:
    """sha256 (first 16 hex digits) of 30 images and masks, of as many classes, at 48 pixels, seed 0."""
    classes = [row for row in read_table()[0] if row.tiered_split != "clutter"]
    digest = hashlib.sha256()
    for index, row in enumerate(classes[:: len(classes) // 30][:30]):
        for array in render(row, index, size=48, seed=0, difficulty=SAMPLE_DIFFICULTY):
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _render_all(
    folder: Path,
    classes: Sequence[GlyphClass],
    per_class: int,
    size: int,
    seed: int,
    difficulty: Difficulty,
    title: str,
) -> None:
    """Write ``pixels.npy`` and ``masks.npy``, by class then index, on all cores where that is sooner."""
    n = len(classes) * per_class
    for file, shape in (("pixels.npy", (n, size, size, 3)), ("masks.npy", (n, size, (size + 7) // 8))):
        np.lib.format.open_memmap(folder / file, mode="w+", dtype=np.uint8, shape=shape).flush()
        with (folder / file).open("r+b") as handle:  # mapped, a full disk would be a SIGBUS; asked for here, an error
            reserve(handle, (folder / file).stat().st_size)
    jobs = [(folder, row, k * per_class, per_class, size, seed, difficulty) for k, row in enumerate(classes)]
    workers = min(len(jobs), cores())
    with tqdm(total=len(jobs), desc=title, unit="class", disable=not title) as bar:
        if n < PARALLEL_FROM or workers == 1 or multiprocessing.current_process().daemon:
            for job in jobs:
                _render_class(*job)
                bar.update()
            return
        pool = ProcessPoolExecutor(workers, mp_context=start_context(__name__))
        with script_hidden():  # they need nothing of it
            futures = [pool.submit(_render_class, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _render_class(
    folder: Path, row: GlyphClass, first: int, count: int, size: int, seed: int, difficulty: Difficulty
) -> None:
    """Write images 0 .. count - 1 of a class at positions `first` and on."""
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="r+")
    masks = np.lib.format.open_memmap(folder / "masks.npy", mode="r+")
    for index in range(count):
        image, mask = render(row, index, size=size, seed=seed, difficulty=difficulty)
        pixels[first + index], masks[first + index] = image, np.packbits(mask, axis=-1)
    pixels.flush()
    masks.flush()
