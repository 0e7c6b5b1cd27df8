"""Backbones: images [B, 3, h, w] to feature maps [B, c, h', w'].

Any `nn.Module` that does so can stand in for one of these. What is asked of a stranger, how many channels its maps have
and where their cells lie, is found by passing images through, where it does not say so by the attributes `channels`,
`stride` and `first_centre` (see `probe` and `cells`).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common import checks
from labkit.methods.noise import Noise

MOST_LAYERS = 1000  # a model's file says how many, and must not make its reader hang


class Dropout(Noise):
    """Zero single values at a rate, and scale the others up (Srivastava et al., 2014)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = self.draw(x, *x.shape[1:]) >= self.rate
        return x * keep * (1 / (1 - self.rate))


class DropBlock(Noise):
    """Zero whole squares of a feature map (Ghiasi et al., 2018), at a rate that grows linearly with training.

    Early in training the map carries no information worth hiding, so the rate starts at 0 and reaches `rate` after
    `ramp` batches. The squares are `min(block, h, w)` cells wide, so small maps are not wiped out.

    Args:
        rate: share of cells dropped at the end of the ramp.
        block: side of a square in cells.
        ramp: batches until `rate` is reached.
    """

    batches: Tensor

    def __init__(self, rate: float, block: int = 5, ramp: int = 40_000) -> None:
        super().__init__()
        self.rate, self.block, self.ramp = rate, block, ramp
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        self.batches += 1
        height, width = x.shape[-2:]
        block = min(self.block, height, width)
        rate = self.rate * (self.batches / self.ramp).clamp(max=1.0)
        corners = (height - block + 1, width - block + 1)
        # A corner drops block^2 cells; the rate of corners is set so that `rate` of all cells is dropped on average.
        corner_rate = rate * height * width / (block**2 * corners[0] * corners[1])
        dropped = (self.draw(x, x.shape[1], *corners) < corner_rate).float()
        dropped = F.pad(dropped, [block - 1] * 4)
        rows = F.max_pool2d(dropped, (block, 1), stride=1)  # one side after the other is cheaper than the square
        keep = 1 - F.max_pool2d(rows, (1, block), stride=1)
        by_episode = keep.view(self.episodes, -1)
        scale = by_episode.shape[1] / by_episode.sum(1).clamp(min=1)
        return x * (by_episode * scale[:, None]).view(x.shape).to(x.dtype)


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions with a 1x1 shortcut, then pooling and a regulariser."""

    def __init__(self, inputs: int, outputs: int, pool: bool, drop: nn.Module) -> None:
        super().__init__()

        def conv(c: int, size: int) -> nn.Conv2d:
            return nn.Conv2d(c, outputs, size, padding=size // 2, bias=False)

        self.conv1, self.bn1 = conv(inputs, 3), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, 3), nn.BatchNorm2d(outputs)
        self.conv3, self.bn3 = conv(outputs, 3), nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(conv(inputs, 1), nn.BatchNorm2d(outputs))
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if pool else nn.Identity()
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.bn1(self.conv1(x)), 0.1)
        y = F.leaky_relu(self.bn2(self.conv2(y)), 0.1)
        y = self.bn3(self.conv3(y)) + self.downsample(x)
        out: Tensor = self.drop(self.pool(F.leaky_relu(y, 0.1)))
        return out


def _initialise(module: nn.Module) -> None:
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="leaky_relu")


RESNET12_CHANNELS = (64, 160, 320, 640)


class ResNet12(nn.Module):
    """The paper's backbone (section 4.4): four residual blocks of 64-160-320-640 channels.

    Without the last pooling an 84 px image gives an 11 x 11 map, and cell (i, j) is centred at pixel
    (8i + 3.5, 8j + 3.5); with it, 6 x 6.

    Args:
        width: multiplies the channels of every block (rounded to a multiple of 4); 1.0 is the paper's.
        last_pool: keep the fourth pooling, which the paper removes (Table 2b).
        drop: rate of dropout in blocks 1 and 2 and of DropBlock in 3 and 4.
        block: side of DropBlock's squares in cells.
        ramp: batches until DropBlock's rate is reached.
    """

    def __init__(
        self, width: float = 1.0, last_pool: bool = False, drop: float = 0.1, block: int = 5, ramp: int = 40_000
    ) -> None:
        super().__init__()
        width, drop = checks.finite("width", width, above=0), checks.finite("drop", drop, least=0, below=1)
        last_pool = checks.flag("last_pool", last_pool)
        block, ramp = checks.check_int("block", block), checks.check_int("ramp", ramp)
        sizes = [max(4, 4 * round(width * c / 4)) for c in RESNET12_CHANNELS]
        self.layer1 = ResidualBlock(3, sizes[0], True, Dropout(drop))
        self.layer2 = ResidualBlock(sizes[0], sizes[1], True, Dropout(drop))
        self.layer3 = ResidualBlock(sizes[1], sizes[2], True, DropBlock(drop, block, ramp))
        self.layer4 = ResidualBlock(sizes[2], sizes[3], last_pool, DropBlock(drop, block, ramp))
        self.channels = sizes[3]
        self.stride = 16 if last_pool else 8
        self.first_centre = (self.stride - 1) / 2
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, h, w] to features [B, channels, ceil(h / stride), ceil(w / stride)]."""
        y: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        return y


class Conv4(nn.Module):
    """Four blocks of convolution, batch normalisation, ReLU and pooling (Vinyals et al., 2016).

    Args:
        width: channels of every block.
        last_pool: keep the fourth pooling; without it an 84 px image gives a 10 x 10 map.
    """

    def __init__(self, width: int = 64, last_pool: bool = False) -> None:
        super().__init__()
        width, last_pool = checks.check_int("width", width), checks.flag("last_pool", last_pool)
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Conv2d(width if i else 3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            if i < 3 or last_pool:
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.channels = width
        self.stride = 16 if last_pool else 8
        self.first_centre = (self.stride - 1) / 2

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, h, w] to features [B, width, h // stride, w // stride]."""
        if min(images.shape[-2:]) < self.stride:
            raise ValueError(f"images must be of {self.stride} px at least, got {list(images.shape[-2:])}")
        y: Tensor = self.layers(images)
        return y


class CachedFeatures(nn.Module):
    """Takes the place of a backbone whose maps were computed before (`labkit.evaluation.features`): the identity.

    Args:
        channels: of the maps.
        stride: distance in pixels between the centres of two neighbouring cells.
        first_centre: pixel on which the first cell is centred; None where the maps lie as after poolings.
        digest: of the weights that made the maps; a method trained on them fits no others.
        mirrored: whether every map is followed by that of the picture's mirror image, 2 c channels in all.
    """

    def __init__(
        self,
        channels: int,
        stride: float = 8,
        digest: str = "",
        mirrored: bool = False,
        first_centre: float | None = None,
    ) -> None:
        super().__init__()
        self.channels = checks.check_int("channels", channels)
        self.mirrored = checks.flag("mirrored", mirrored)
        self.inputs = self.channels * (2 if mirrored else 1)
        checks.finite("stride", stride, above=0)
        self.stride, self.digest = stride, digest
        self.first_centre = (stride - 1) / 2 if first_centre is None else checks.finite("first_centre", first_centre)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, c, h, w], as they are; of `mirrored` ones the pictures' own."""
        return maps[:, : self.channels]

    def mirror(self, maps: Tensor) -> Tensor:
        """Maps [..., 2 c, h, w] of the pictures' mirror images: the two halves have changed places.

        A map that is turned round would not do: a backbone answers a mirror image with other features.

        Raises:
            ValueError: the maps are of the pictures alone.
        """
        if not self.mirrored:
            raise ValueError(
                "this method is shown mirror images too, and these maps are of the pictures alone: compute them with "
                "embed_all(..., mirrored=True)"
            )
        return torch.cat([maps[..., self.channels :, :, :], maps[..., : self.channels, :, :]], dim=-3)


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each after batch normalisation and ReLU, beside a shortcut (pre-activation)."""

    def __init__(self, inputs: int, outputs: int, stride: int, drop: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.drop = Dropout(drop)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.downsample = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.bn1(x)))
        y = self.conv2(self.drop(F.relu(self.bn2(y))))
        out: Tensor = y + (x if self.downsample is None else self.downsample(x))
        return out


class WideResNet(nn.Module):
    """WRN-28-10 (Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, table 1) up to its last feature map.

    Three groups of (depth - 4) / 6 blocks, of 16, 32 and 64 times `width` channels; the second and the third begin
    with a stride of 2. An 84 px image gives a 21 x 21 map, with cell (i, j) centred at pixel (4i, 4j); 36.5 million
    weights a classifier aside.

    Args:
        depth: convolutions from the first to the classifier, as the paper counts them: 6 n + 4.
        width: k, which multiplies the channels.
        drop: rate of dropout between a block's two convolutions (its section 2.4).

    Raises:
        ValueError: a depth that is not 6 n + 4, or a rate that is not from 0 to below 1.
    """

    def __init__(self, depth: int = 28, width: int = 10, drop: float = 0.0) -> None:
        super().__init__()
        checks.check_int("width", width)
        drop = checks.finite("drop", drop, least=0, below=1)
        if checks.check_int("depth", depth, least=10, most=MOST_LAYERS) % 6 != 4:
            raise ValueError(f"the depth of a wide residual network must be 6 n + 4, such as 16, 22 or 28, got {depth}")
        sizes = (16, 16 * width, 32 * width, 64 * width)
        self.conv = nn.Conv2d(3, sizes[0], 3, padding=1, bias=False)
        blocks = []
        for group in (1, 2, 3):
            for i in range((depth - 4) // 6):
                first = i == 0
                stride = 2 if first and group > 1 else 1
                blocks.append(WideBlock(sizes[group - 1 if first else group], sizes[group], stride, drop))
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(sizes[3])
        self.channels = sizes[3]
        self.stride, self.first_centre = 4, 0.0
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, h, w] to features [B, channels, ceil(h / 4), ceil(w / 4)]."""
        return F.relu(self.bn(self.blocks(self.conv(images))))


BACKBONES: dict[str, type[nn.Module]] = {
    "resnet12": ResNet12,
    "conv4": Conv4,
    "wrn28": WideResNet,
    "features": CachedFeatures,
}


def make_backbone(backbone: str | nn.Module, options: dict[str, Any]) -> nn.Module:
    """A backbone by name, made with its options, or the module that was given.

    Raises:
        ValueError: an unknown name, or options beside a module.
        TypeError: an option that the backbone does not have.
    """
    if isinstance(backbone, nn.Module):
        if options:
            raise ValueError("backbone_options go with a backbone given by name")
        return backbone
    if backbone not in BACKBONES:
        raise ValueError(f"backbone must be one of {sorted(BACKBONES)} or a module, got {backbone!r}")
    checks.options(f"the backbone {backbone!r}", BACKBONES[backbone], options)
    return BACKBONES[backbone](**options)
