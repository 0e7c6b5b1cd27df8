"""Feature maps of all pictures of a split, computed once and kept on the disk: what heads are trained and tested on.

    base, validation, novel = (embed_all(backbone, load_images("miniimagenet", s, root=root, size=42)) for s in SPLITS)

A `FeatureSet` stands in for the `ImageSet` it was made of: the `EpisodeSampler` draws the same episodes from it,
`evaluate` and `train` take it, and a method whose backbone is ``"features"``
(`labkit.methods.backbones.CachedFeatures`) reads it.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from labkit.common import checks
from labkit.data.cache import build_once
from labkit.data.classes import check_classes
from labkit.data.imageset import ImageSet
from labkit.evaluation.features import embed_pictures, preprocessing_of
from labkit.methods.base import Method
from labkit.methods.cells import Cells, pooled

CODE = 1  # to be raised when what `embed_all` computes changes
AT_ONCE = 256  # pictures
DTYPES = ("float16", "float32")


@dataclass(frozen=True, eq=False, repr=False)
class FeatureSet(ImageSet):
    """The feature maps of an `ImageSet`'s pictures, in its place.

    Attributes:
        pixels: the maps, float16 or float32 [n, h, w, c], memory-mapped; channels last, as pictures are.
        provenance: of the pictures; its digest covers pictures and backbone.
        picture_size: side of the pictures, in pixels.
        backbone: digest of the weights that made the maps.
        stride: distance in pixels between the centres of two neighbouring cells.
        first_centre: pixel on which the first cell is centred; None where the maps lie as after poolings.
        mirrored: whether each map is followed by that of the picture's mirror image, 2 c channels in all.
    """

    picture_size: int = 0
    backbone: str = ""
    stride: float = 8
    mirrored: bool = False
    first_centre: float | None = None

    def __post_init__(self) -> None:
        checks.kind("maps", self.pixels, np.ndarray, "a NumPy array")
        if self.pixels.dtype.name not in DTYPES or self.pixels.ndim != 4 or len(self.pixels) != len(self.labels):
            raise ValueError(
                f"maps must be float16 or float32 [{len(self.labels)}, h, w, c], got {self.pixels.dtype} "
                f"{list(self.pixels.shape)}"
            )
        where = f"the {self.provenance.split} split of {self.provenance.dataset}"
        check_classes(self.labels, len(self.pixels), self.class_names, self.categories, where)

    def __repr__(self) -> str:
        p, (h, w, c) = self.provenance, self.pixels.shape[1:]
        return (
            f"FeatureSet({p.dataset!r}, {p.split!r}, {len(self)} maps {c} x {h} x {w} of {len(self.class_names)} "
            f"classes, backbone {self.backbone})"
        )

    @property
    def size(self) -> int:
        """Height and width of the pictures, in pixels."""
        return self.picture_size

    def mean(self) -> Tensor:
        """The mean feature of all pictures and cells, float32 [c], of mirror images c more."""
        parts = (self.pixels[i : i + AT_ONCE] for i in range(0, len(self), AT_ONCE))
        summed = sum(part.mean((1, 2), dtype=np.float64).sum(0) for part in parts)
        return torch.tensor(summed / len(self), dtype=torch.float32)

    @property
    def backbone_options(self) -> dict[str, Any]:
        """Options for the backbone ``"features"``, with which it reads these maps."""
        channels = self.pixels.shape[-1] // (2 if self.mirrored else 1)
        options = {"channels": channels, "stride": self.stride, "digest": self.backbone}
        if self.first_centre not in (None, pooled(self.stride)):
            options["first_centre"] = self.first_centre
        return options | ({"mirrored": True} if self.mirrored else {})


def embed_all(
    model: Method,
    images: ImageSet,
    *,
    dtype: str = "float16",
    cache: bool = True,
    progress: bool = True,
    mirrored: bool = False,
    strict: bool = True,
) -> FeatureSet:
    """The maps of all pictures, as `evaluate` computes them; the second time they are read from the lab's cache.

    Args:
        model: whose `backbone` embeds; in evaluation mode meanwhile, whatever mode it is in.
        dtype: of the maps, ``"float16"`` (rounded to 11 bits, half the disk) or ``"float32"`` (as computed).
        cache: keep them in the cache (``*-features-*``; folders that no version asks for any more may be deleted);
            otherwise in memory. A backbone that was given as a module is never kept: nothing
            tells it from another one.
        mirrored: compute those of the mirror images too, for a method with `Method.shows_mirrored`.
        strict: refuse pictures prepared otherwise than the model's own.

    Raises:
        ValueError: the pictures were prepared otherwise than the model's, the model has no preprocessing, its features
            are more than its backbone's, or one is too large for `dtype`.
        OSError: the cache cannot be written.
    """
    checks.kind("images", images, ImageSet, "an ImageSet, as labkit.load_images gives")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    if strict:
        preprocessing_of(model).check(images)
    if type(model).embed is not Method.embed:
        raise ValueError(f"{type(model).__name__} embeds otherwise than its backbone does: give a model that does not")
    cache &= model.backbone_name is not None
    backbone = backbone_digest(model)
    p = images.provenance
    about = {"backbone": backbone, "pictures": images.digest, "dtype": dtype, "code": CODE, "torch": torch.__version__}
    provenance = replace(p, digest=_digest(about), details=p.details | {"features": about})

    def parts() -> Iterator[NDArray[Any]]:
        with tqdm(total=len(images), desc=f"embedding {p.split}", unit="image", disable=not progress) as bar:
            for start in range(0, len(images), AT_ONCE):
                part = images.pixels[start : start + AT_ONCE]
                maps = embed_pictures(model, part)
                if mirrored:
                    maps = torch.cat([maps, embed_pictures(model, part, mirrored=True)], dim=1)
                yield _rounded(maps.movedim(1, -1).cpu().numpy(), dtype)
                bar.update(len(maps))

    def build(folder: Path) -> None:
        # Written rather than memory-mapped: a full disk is then an error and not a SIGBUS.
        with (folder / "maps.npy").open("wb") as out:
            for i, part in enumerate(parts()):
                if i == 0:
                    shape = (len(images), *part.shape[1:])
                    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(out, header)
                out.write(part.tobytes())

    # With other labels, or with mirror images too, the digest is the same pictures'.
    kept_by = about | {"labels": images.labels_digest} | ({"mirrored": True} if mirrored else {})
    if cache:
        maps = np.load(build_once(f"{p.dataset}-{p.split}-features", kept_by, build) / "maps.npy", mmap_mode="r")
    else:
        maps = np.concatenate(list(parts()))
    names = images.class_names, images.categories
    cells = Cells.of(model)
    of: dict[str, Any] = {"picture_size": images.size, "backbone": backbone, "stride": cells.stride}
    of |= {"first_centre": cells.first, "mirrored": mirrored}
    return FeatureSet(maps, images.labels, *names, provenance, **of).with_known_digest()


def _rounded(maps: NDArray[Any], dtype: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        rounded = maps.astype(dtype)
    lost = np.isinf(rounded) & np.isfinite(maps)
    if lost.any():
        raise ValueError(
            f"a feature is {np.abs(maps[lost]).max():.4g}, and {dtype} ends at {np.finfo(dtype).max}: pass "
            'dtype="float32"'
        )
    return rounded


def backbone_digest(model: Method) -> str:
    """16 hex digits that change with the backbone's kind, weights or statistics, and with its preprocessing."""
    kept = vars(preprocessing_of(model))
    name = model.backbone_name or repr(model.backbone)
    found = hashlib.sha256(json.dumps([name, model.backbone_options, kept], sort_keys=True).encode())
    for name, value in model.backbone.state_dict().items():
        if name.rpartition(".")[2] not in ("batches", "num_batches_tracked"):  # counted, and read in training alone
            found.update(name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
