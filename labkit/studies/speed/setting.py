"""What is measured: sizes, the network, images and features; and the two forms of the head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labkit.data import load_images
from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.studies.speed.literal import LiteralDMF


@dataclass(frozen=True)
class Setting:
    """What is measured. Smaller ones make the live cells of notebook 10 and the tests.

    Attributes:
        way, query, groups: of an episode (queries per class) and of the filter.
        width, size: of the ResNet-12 and of the images, in shares of the paper's channels and in pixels.
        episodes: of the protocol; the literal form runs `literal_episodes` and is scaled.
        runs: of either form, alternating, of which the median counts.
        per_class: images of a class, of which all are embedded.
        growth: largest number of pairs of query and class that the literal form is given.
    """

    way: int = 5
    query: int = 15
    groups: int = 64
    width: float = 1.0
    size: int = 84
    episodes: int = 2000
    literal_episodes: int = 10
    runs: int = 5
    per_class: int = 600
    growth: int = 750
    device: str = "cpu"

    def model(self, **choices: Any) -> DMF:
        """The released network with random weights, in eval mode."""
        torch.manual_seed(0)
        options = {"width": self.width}
        return DMF("resnet12", self.groups, "released", backbone_options=options, **choices).eval().to(self.device)

    def images(self, split: str) -> ImageSet:
        return load_images("glyphs-mini", split, size=self.size, per_class=self.per_class, progress=False)

    def features(self, way: int | None = None, queries: int | None = None, cells: int | None = None) -> list[Tensor]:
        """Random features of one episode, [1, N, 1, c, h, w] and [1, Q, c, h, w]."""
        n, q = way or self.way, queries or self.way * self.query
        shape = (self.model().channels, *2 * (cells or -(-self.size // 8),))
        generator = torch.Generator().manual_seed(1)
        made = (torch.randn(1, *lead, *shape, generator=generator) for lead in ((n, 1), (q,)))
        return [t.to(self.device) for t in made]


def forms_of_head(setting: Setting, features: list[Tensor]) -> dict[str, Callable[[], Any]]:
    """The head's forward pass on features, in the literal form and in the lab's, as calls without arguments."""
    model = setting.model()
    literal, x_supp = LiteralDMF(model), features[0].mean(2)
    return {
        "literal": torch.inference_mode()(lambda: literal.head(x_supp, features[1]).mean((-2, -1))),
        "fast": torch.inference_mode()(lambda: model.score(*features)),
    }
