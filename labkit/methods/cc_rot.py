"""CC+rot (Gidaris et al., "Boosting Few-Shot Visual Learning with Self-Supervision", ICCV 2019).

A cosine classifier of all base classes, whose backbone at the same time learns to tell by how many
quarters of a turn a picture was rotated. Every picture is seen in all four rotations, and every copy is
classified too. A novel class is the mean of its normalised shots.

The published number is that of WRN-28-10 on pictures of 80 px. The released code is followed where the paper leaves
open what the rotation's head is: the last stage of a wide residual network once more, and a cosine classifier.
"""

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Between
from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.base_and_novel import base_classes_of_all, cosines
from labkit.methods.losses import Losses

# 26 epochs of 1000 batches of 64 pictures, each in four rotations, by a WRN-28-10; no episodes.
_PICTURES = {"batch": "pictures", "size": 64, "steps": 26_000, "learning_rate": 0.1, "weight_decay": 5e-4}
_TENTHS = {"schedule": "steps", "decay": 0.1, "milestones": (20_000, 23_000), "validate_every": 1000}
AUTHORS_TRAINING: Trainings = {shot: AuthorsTraining([_PICTURES | _TENTHS]) for shot in (1, 5)}


class CCRot(Method):
    """A cosine classifier trained together with a classifier of rotations.

    Args:
        rotation_weight: of the rotation's loss (alpha).
        head_width: channels of the rotation's head; None: those of the backbone.
        head_blocks: residual blocks of the rotation's head.
    """

    auxiliary_name = "classification of base classes and rotations"
    authors_training: ClassVar = AUTHORS_TRAINING
    rotation_weight: float = 1.0
    head_width: int | None = None
    head_blocks: Annotated[int, Between(0, 100)] = 4

    def build(self) -> None:
        c = self.channels
        self.base_weights = nn.Parameter((2 / c) ** 0.5 * torch.randn(self.classes, c))
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.rotation_head = RotationHead(c, self.head_width or c, self.head_blocks)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Scaled cosines with the mean of the normalised shots; see `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            novel = mean_of_shots(F.normalize(support.mean((-2, -1)), dim=-1), support_mask)
            return self.scale * cosines(query.mean((-2, -1)), novel)

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """The loss of classification on all pictures of the episodes; the few-shot loss is only looked at."""
        n, k = support.shape[1:3]
        pictures = torch.cat([support.flatten(1, 2), query], dim=1)
        maps = self.embed(four_rotations(pictures))  # [E, NK + Q, 4, c, h, w]: an episode's numbers stay its own
        with torch.autocast(query.device.type, enabled=False):
            classification, rotation, _ = self.losses_of(maps, base_classes_of_all(labels, base_labels, n, k))
            auxiliary = classification + self.rotation_weight * rotation
            upright = maps[:, :, 0]
            scores = self.score(upright[:, : n * k].unflatten(1, (n, k)), upright[:, n * k :])
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            return Losses(auxiliary, few_shot.detach(), auxiliary, scores)

    def classification_loss(self, images: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> Losses:
        """Of base images [B, 3, H, W]: cross-entropies of base classes and of rotations, over all 4 B copies."""
        maps = self.embed(four_rotations(images))
        with torch.autocast(images.device.type, enabled=False):
            classification, rotation, logits = self.losses_of(maps, base_labels, label_smoothing)
            auxiliary = classification + self.rotation_weight * rotation
            return Losses.of_classification(auxiliary, logits[..., 0, :])

    def losses_of(
        self, maps: Tensor, base_labels: Tensor, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both cross-entropies, and the logits [..., 4, C], of maps [..., 4, c, h, w] with base labels [...]."""
        logits = self.scale * cosines(maps.mean((-2, -1)), self.base_weights)
        target = base_labels.unsqueeze(-1).expand(logits.shape[:-1])
        classification = F.cross_entropy(logits.flatten(0, -2), target.flatten(), label_smoothing=label_smoothing)
        turns = torch.arange(4, device=maps.device).expand(logits.shape[:-1])
        rotation = F.cross_entropy(self.rotation_head(maps.flatten(0, -4)), turns.flatten())
        return classification, rotation, logits


def four_rotations(images: Tensor) -> Tensor:
    """Pictures turned by 0, 90, 180 and 270 degrees, counter-clockwise: [..., 3, H, W] to [..., 4, 3, H, W].

    Raises:
        ValueError: pictures that are not square.
    """
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"pictures to be turned must be square, got {list(images.shape[-2:])}")
    return torch.stack([images.rot90(turns, (-2, -1)) for turns in range(4)], dim=-4)


class RotationHead(nn.Module):
    """Maps [B, c, h, w] to logits [B, 4]: a stage of residual blocks, the mean over cells, a cosine classifier."""

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(PreActivated(inputs if i == 0 else width, width, i == 0) for i in range(blocks)))
        self.norm = nn.BatchNorm2d(width)
        self.weights = nn.Parameter((2 / width) ** 0.5 * torch.randn(4, width))
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, maps: Tensor) -> Tensor:
        pooled = F.relu(self.norm(self.blocks(maps))).mean((-2, -1))
        return self.scale * cosines(pooled, self.weights)


class PreActivated(nn.Module):
    """Two 3x3 convolutions, each normalised and rectified before (Zagoruyko and Komodakis, 2016).

    The first block of the stage halves the map. Its input, the backbone's output, is normalised and rectified already,
    so that block starts with its convolution, and its shortcut is a convolution too.
    """

    def __init__(self, inputs: int, outputs: int, first: bool) -> None:
        super().__init__()
        stride = 2 if first else 1
        self.norm1 = None if first else nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if first else nn.Identity()
        for conv in (m for m in self.modules() if isinstance(m, nn.Conv2d)):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.norm1 is None else F.relu(self.norm1(x))
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(y)))) + self.shortcut(x)
        return out
