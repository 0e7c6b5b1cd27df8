"""What is asked of a backbone that is not the lab's own: how many channels its maps have, and how far cells are apart.

Both are found by passing one image through, where the module does not say so itself by the attributes `channels` and
`stride`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from labkit.common.modes import evaluating

SIZES = (84, 224, 96, 40, 64, 32, 112, 128, 160, 256, 299, 384)  # pixels; a backbone may take one size only
FAR = 192  # pixels; a multiple of most strides: the cells that so many more pixels bring tell the stride


class NoMaps(ValueError):
    """A backbone gives something else than a tensor."""


def channels_of(backbone: nn.Module) -> int:
    """Channels of a backbone's feature maps: its `channels`, or found by passing images through.

    Raises:
        ValueError: it does not give feature maps [B, c, h, w] of images [B, 3, H, W], with h = w where H = W, and as
            many channels for every size; `NoMaps` where it gives no tensor.
    """
    known = getattr(backbone, "channels", None)
    if type(known) is int:
        return known
    found = _first(backbone, SIZES)
    if found is None:
        raise ValueError(_refusal(backbone))
    size, shape = found
    second = _first(backbone, [s for s in (2 * size, size + 28) if s != size])
    for side, other in (found, *([second] if second else [])):
        if len(other) != 4 or other[0] != 1 or other[2] != other[3] or other[1] != shape[1] or 0 in other:
            more = f" and {list(shape)} of {size} px" if other != shape else ""
            raise ValueError(
                f"a backbone must give feature maps [B, c, h, w]; this one gives {list(other)} of an image of {side} px"
                f"{more}. Maps [B, h, w, c] must be turned first: features.permute(0, 3, 1, 2)"
            )
    return shape[1]


def stride_of(backbone: nn.Module) -> float:
    """Pixels between neighbouring cells of a backbone's maps: its `stride`, or found by passing two images through.

    One of a fixed input size tells it by how many cells an image has, rounded to whole pixels.

    Raises:
        ValueError: it takes no image that is tried.
    """
    known = getattr(backbone, "stride", None)
    if isinstance(known, int | float) and not isinstance(known, bool) and known > 0:
        return known
    for size in (64, 84):
        small, large = _first(backbone, [size]), _first(backbone, [size + FAR])
        if small and large and len(small[1]) == len(large[1]) == 4 and large[1][3] > small[1][3]:
            return _whole(FAR / (large[1][3] - small[1][3]))
    found = _first(backbone, SIZES)
    if found is None or len(found[1]) != 4:
        raise ValueError(_refusal(backbone) + ", or a number of pixels as its attribute `stride`")
    return float(max(1, round(found[0] / found[1][3])))


def check_maps(features: Tensor, images: Tensor, channels: int) -> None:
    """Raises:
    ValueError: features of images [B, 3, H, W] are no maps [B, channels, h, w], square where the images are.
    """
    well = isinstance(features, Tensor) and features.ndim == 4 and features.is_floating_point()
    well = well and tuple(features.shape[:2]) == (len(images), channels) and 0 not in features.shape
    if well and (images.shape[2] != images.shape[3] or features.shape[2] == features.shape[3]):
        return
    came = f"a {type(features).__name__}"
    if isinstance(features, Tensor):
        came = f"{list(features.shape)}" + ("" if features.is_floating_point() else f" of {features.dtype}")
    raise ValueError(
        f"the backbone must give feature maps [B, {channels}, h, w], with h = w for square images; of images "
        f"{list(images.shape)} it gives {came}. Maps [B, h, w, c] must be turned first: features.permute(0, 3, 1, 2)"
    )


def _whole(stride: float) -> float:
    return float(round(stride)) if abs(stride - round(stride)) < 0.5 / 8 else stride


def _refusal(backbone: nn.Module) -> str:
    own = f"a backbone must take images [B, 3, H, W]; this {type(backbone).__name__} takes none of {min(SIZES)} to "
    own += f"{max(SIZES)} px ({_error(backbone, 3)})"
    if _first(backbone, SIZES, channels=1) is not None:
        return f"{own}, only images of one channel: put nn.Conv2d(3, 1, 1) before it"
    return f"{own}. One that needs another size says how many channels its maps have by an attribute `channels`"


def _error(backbone: nn.Module, channels: int) -> str:
    try:
        _shape(backbone, SIZES[0], channels)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return "no feature maps"


def _first(backbone: nn.Module, sizes: Iterable[int], channels: int = 3) -> tuple[int, tuple[int, ...]] | None:
    """The first size that a backbone takes, and the shape of what it gives."""
    for size in sizes:
        try:
            return size, _shape(backbone, size, channels)
        except NoMaps:
            raise
        except Exception:  # a stranger's module may fail in any way at a size that it does not take
            continue
    return None


def _shape(backbone: nn.Module, size: int, channels: int) -> tuple[int, ...]:
    parameter = next(backbone.parameters(), torch.zeros(()))
    image = torch.zeros(1, channels, size, size, dtype=parameter.dtype, device=parameter.device)
    with evaluating(backbone), torch.no_grad():  # not inference mode: a tensor that it keeps may be trained with later
        out = backbone(image)
    if not isinstance(out, Tensor):
        raise NoMaps(
            f"a backbone must give feature maps [B, c, h, w], one tensor; this {type(backbone).__name__} gives a "
            f"{type(out).__name__}: take the maps out of it, in a module around it"
        )
    return tuple(out.shape)


def maps_of(backbone: nn.Module, images: Tensor, channels: int, dtype: torch.dtype | None) -> Tensor:
    """What a backbone, computing in `dtype`, makes of images [..., 3, H, W]; see `Method.embed`."""
    flat = images.reshape(-1, *images.shape[-3:]).contiguous(memory_format=torch.channels_last)
    features: Tensor = backbone(flat if dtype is None else flat.to(dtype))
    check_maps(features, flat, channels)
    if features.dtype in (torch.bfloat16, torch.float16):
        features = features.float()
    if dtype is not None:
        features = features.to(dtype)
    return features.view(*images.shape[:-3], *features.shape[-3:])
