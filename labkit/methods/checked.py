"""What every method's `score` and `loss` ask of their arguments, asked once, before the method's own lines run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from labkit.common import checks
from labkit.methods.losses import Losses


def checked_score(score: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method's `score` that first checks features and mask, and casts features to the type of the model's weights.

    A shot that does not exist is set to 0, so that what stands in its place, a NaN for example, reaches no sum.
    """

    @wraps(score)
    def asked(model: Any, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        checks.features(support, query, model.channels_of_maps)
        dtype = weights_dtype(model)
        if dtype is not None:
            support, query = support.to(dtype), query.to(dtype)
        if support_mask is None:
            return score(model, support, query)
        checks.mask(support_mask, support)
        return score(model, existing(support, support_mask), query, support_mask)

    return asked


def checked_loss(loss: Callable[..., Losses]) -> Callable[..., Losses]:
    """A method's `loss` that first checks images and labels."""

    @wraps(loss)
    def asked(
        model: Any, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor, **options: Any
    ) -> Losses:
        checks.images(support, query, model.channels_of_images)
        checks.labels("labels", labels, query.shape[:2], support.shape[1])
        checks.labels("base_labels", base_labels, query.shape[:2], model.classes)
        return loss(model, support, query, labels, base_labels, **options)

    return asked


def existing(support: Tensor, mask: Tensor) -> Tensor:
    """`support` [E, N, K, ...] with 0 in place of the shots that a mask [E, N, K] leaves out."""
    return torch.where(mask.view(*mask.shape, *[1] * (support.ndim - 3)), support, 0)


def weights_dtype(model: nn.Module) -> torch.dtype | None:
    """The type of a model's weights, to which images are cast; None where there are none.

    Raises:
        TypeError: half precision, in which sums over a few hundred channels overflow.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if dtype in (torch.float16, torch.bfloat16):
        raise TypeError(
            f"the model's weights are {str(dtype).removeprefix('torch.')}, and scores are computed in float32 or "
            "float64: call model.float(); bfloat16=True of evaluate and of an Experiment is mixed precision"
        )
    return dtype
