"""Pictures as features, and features compared: what evaluation, calibration, classification and the explorer share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from labkit.common.modes import evaluating
from labkit.episodes.preprocessing import Preprocessing
from labkit.methods.backbones import CachedFeatures
from labkit.methods.base import Method, mean_of_shots

BATCH = 256  # pictures embedded at once


class FewShotModel(Protocol):
    """What evaluation needs of a method; `labkit.DMF` and whatever is compared with it has them."""

    def embed(self, images: Tensor, /) -> Tensor: ...
    def score(self, support: Tensor, query: Tensor, /) -> Tensor: ...


@contextmanager
def eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, full precision and no gradients inside; afterwards every part is in its own mode again."""
    with evaluating(model), torch.inference_mode():
        yield


def embed(
    model: FewShotModel,
    pixels: Tensor | NDArray[np.uint8],
    preprocessing: Preprocessing,
    device: torch.device | str,
    index: NDArray[np.int64] | None = None,
    bfloat16: bool = False,
    mirrored: bool = False,
) -> Tensor:
    """Features [n, ...] of pictures, in batches; call it within `eval_mode`.

    Args:
        pixels: uint8 [m, size, size, 3].
        index: numbers of the n pictures that are wanted; None means all.
        bfloat16: embed in mixed precision.
        mirrored: embed their mirror images, left and right exchanged.
    """
    index = np.arange(len(pixels)) if index is None else index
    features = torch.empty(0)
    for start in range(0, len(index), BATCH):
        some = torch.as_tensor(pixels[index[start : start + BATCH]])  # copied batch by batch: `pixels` may be on disk
        unit = preprocessing.to_unit(some.to(device))
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16):
            part = model.embed(preprocessing.normalise(cast(Method, model).mirror(unit) if mirrored else unit))
        if start == 0:  # filled in place: a list to be joined would take the memory twice
            features = part.new_empty(len(index), *part.shape[1:])
        features[start : start + BATCH] = part
    return features


def embed_pictures(model: Method, pixels: NDArray[np.uint8], mirrored: bool = False) -> Tensor:
    """Feature maps [n, c, h, w] of pictures uint8 [n, size, size, 3], or of their mirror images, on the model's device.

    Raises:
        ValueError: the model does not say how its images were prepared, or they have another size; or it is a head.
    """
    kept = picture_preprocessing(model)
    if pixels.shape[1:] != (kept.size, kept.size, 3):
        raise ValueError(f"the model reads [n, {kept.size}, {kept.size}, 3], got {list(pixels.shape)}")
    with eval_mode(model):
        device = next(model.parameters(), torch.zeros(())).device  # a model may have no weights at all
        return embed(model, pixels, kept, device, mirrored=mirrored)


def preprocessing_of(model: Method) -> Preprocessing:
    """The model's own preprocessing.

    Raises:
        ValueError: it has none.
    """
    if model.preprocessing is None:
        raise ValueError("the model does not say how its images were prepared: set model.preprocessing")
    return model.preprocessing


def picture_preprocessing(model: Method) -> Preprocessing:
    """The preprocessing of a model of pictures.

    Raises:
        ValueError: it has none, or it is a head, which reads feature maps.
    """
    of_maps = model.preprocessing is not None and not model.preprocessing.mean
    if of_maps or isinstance(getattr(model, "backbone", None), CachedFeatures):
        raise ValueError(
            "the model is a head of feature maps and reads no pictures: make it whole with "
            "labkit.training.heads.on_pictures(head, backbone)"
        )
    return preprocessing_of(model)


def compare(model: Method, support: Tensor, mask: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [Q, N] and likeness [Q] of features, support [N, K, c, h, w] with mask [N, K], and query [Q, c, h, w].

    Of a method that is shown mirror images, their features follow the others: support [N, 2K, c, h, w].
    """
    if len(support[0]) == 2 * len(mask[0]):
        mask = torch.cat([mask, mask], dim=1)
    with eval_mode(model):
        scores = model.score(support[None], query[None], mask[None])[0]
        means = mean_of_shots(support[None], mask[None])[0].flatten(1)
        alike = F.normalize(query.flatten(1), dim=1) @ F.normalize(means, dim=1).T
        return scores, alike.amax(1)
