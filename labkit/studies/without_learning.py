"""How hard a set of images is without learning: what pixels and an untrained network get right.

Both methods work in float64 and equal distances are made equal, so that rounding decides no query and every machine
gets the same accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor, nn

from labkit.data.glyphs.classes import GlyphClass
from labkit.data.glyphs.likeness import COMPARED_FACES, EM, TURNS, covered, describe, drawing, ink, likeness
from labkit.data.glyphs.load import DEFAULT, SPLITS, classes_of, load_glyphs
from labkit.data.imageset import ImageSet
from labkit.evaluation.protocol import evaluate
from labkit.methods.backbones import ResNet12


class PixelNearest(nn.Module):
    """The class whose nearest support image is nearest to the query, pixel by pixel; nothing is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()), requires_grad=False)  # tells `evaluate` the device; never read

    def embed(self, images: Tensor) -> Tensor:
        """Images [B, 3, h, w] to their pixels in a row, [B, 3hw]."""
        return images.flatten(1).double()

    def score(self, support: Tensor, query: Tensor) -> Tensor:
        """Pixels [E, N, K, 3hw] and [E, Q, 3hw] to minus the mean squared difference to the nearest shot, [E, Q, N]."""
        distance: Tensor = torch.cdist(query, support.flatten(1, 2)) ** 2 / query.shape[-1]
        distance = (distance * 2**20).round() / 2**20  # so a tie is one on every machine
        return -distance.view(*distance.shape[:2], *support.shape[1:3]).amin(3)


class UntrainedLogistic(nn.Module):
    """Logistic regression, fitted to the support of each episode, on the pooled features of an untrained ResNet-12.

    What it gets right above `PixelNearest` is owed to the architecture (convolution, pooling), not to base classes.

    Args:
        width: of the ResNet-12, see `ResNet12`.
        seed: of its random weights; the global generator is left as it was.
    """

    def __init__(self, width: float = 0.125, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = ResNet12(width).double()

    def embed(self, images: Tensor) -> Tensor:
        """Images [B, 3, h, w] to features averaged over positions, [B, c]."""
        few = images.double().split(32)  # at a time, since maps in float64 are large
        return torch.cat([self.backbone(part).mean((2, 3)) for part in few])

    def score(self, support: Tensor, query: Tensor) -> Tensor:
        """Features [E, N, K, c] and [E, Q, c] to log-probabilities of the classes, [E, Q, N]; N is 2 or more.

        Features are standardised by the support. The fit, penalised as scikit-learn's default is, runs on the CPU to
        its one optimum, whose weights lie in the span of the support: there it is a matter of N x K numbers, not of c.
        """
        classes, shots = support.shape[1:3]
        labels = np.repeat(np.arange(classes), shots)
        scores = []
        with threadpool_limits(1):  # threads cost such small fits twenty times what they bring
            for shown, asked in zip(support.flatten(1, 2).cpu().numpy(), query.cpu().numpy(), strict=True):
                scale = StandardScaler().fit(shown)
                span = np.linalg.svd(scale.transform(shown), full_matrices=False)[2].T
                fit = LogisticRegression(solver="newton-cg", tol=1e-7).fit(scale.transform(shown) @ span, labels)
                scores.append(fit.predict_log_proba(scale.transform(asked) @ span))
        return torch.from_numpy(np.stack(scores)).to(query.device)


METHODS = {"pixel nearest neighbour": PixelNearest, "logistic regression on an untrained ResNet-12": UntrainedLogistic}


def without_learning(images: ImageSet, *, episodes: int = 200, seed: int = 0) -> pd.DataFrame:
    """Accuracy of both methods on the same 5-way 1-shot episodes of `images`, 15 queries a class.

    Returns:
        A row a method: method, accuracy and ci95, the half width of its 95 % interval over episodes, both in percent.

    Raises:
        ValueError: see `evaluate`.
    """
    rows = []
    for name, method in METHODS.items():
        result = evaluate(method(), images, episodes=episodes, seed=seed)
        rows.append({"method": name, "accuracy": result.accuracy, "ci95": result.ci95})
    return pd.DataFrame(rows)


def objects_alone(images: ImageSet) -> ImageSet:
    """The same objects as white silhouettes on black: without colour, texture or clutter, in the same places.

    Raises:
        ValueError: the source has no object masks.
    """
    silhouettes = 255 * images.masks(slice(None)).numpy().astype(np.uint8)
    provenance = replace(images.provenance, digest=f"{images.provenance.digest}-alone")
    return replace(images, pixels=np.repeat(silhouettes[..., None], 3, axis=-1), provenance=provenance)


def data_sheet(
    dataset: str = "glyphs-mini",
    *,
    displacements: Sequence[float] = (0, 0.5, 1),
    clutters: Sequence[int] = (0, 3, 6),
    size: int = 40,
    per_class: int = 30,
    episodes: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy without learning, 5-way 1-shot, at every displacement of the object and amount of clutter.

    It is asked of validation classes: novel ones are kept for the end.

    Only these two numbers differ between the sets of images: class by class and image by image the scenes are the
    same otherwise, and so are the episodes. Beside the images, `objects_alone` are asked for too.

    Args:
        dataset: one that is rendered.
        size, per_class: pixels a side and images a class of the small sets that are rendered for this.
        episodes, seed: as in `evaluate`; the seed is also that of the images.

    Returns:
        A row for each displacement, each thing seen and each method: displacement, sees (``"clutter 3"`` or
        ``"object alone"``), method, accuracy and ci95 in percent.

    Raises:
        ValueError: an unknown dataset, a difficulty that cannot be, or fewer than 16 images a class.
    """
    sheets = []
    for displacement, clutter in product(displacements, clutters):
        setting = replace(DEFAULT, displacement=displacement, clutter=clutter)
        images = load_glyphs(
            dataset, "val", size=size, seed=seed, per_class=per_class, difficulty=setting, progress=False
        )
        seen = {f"clutter {clutter}": images}
        if clutter == clutters[-1]:  # the objects are the same in all of them
            seen["object alone"] = objects_alone(images)
        for sees, shown in seen.items():
            sheet = without_learning(shown, episodes=episodes, seed=seed)
            sheet.insert(0, "displacement", float(displacement))
            sheet.insert(1, "sees", sees)
            sheets.append(sheet)
    return pd.concat(sheets, ignore_index=True)


def as_table(sheet: pd.DataFrame) -> pd.DataFrame:
    """A `data_sheet` as a table: methods and displacements downwards, what is seen across, cells of "27.4 ± 0.9"."""
    text = [f"{accuracy:.1f} ± {ci95:.1f}" for accuracy, ci95 in zip(sheet["accuracy"], sheet["ci95"], strict=True)]
    table = sheet.assign(text=text).pivot(index=["method", "displacement"], columns="sees", values="text")
    return table.reindex(index=sheet["method"].unique(), level="method").reindex(columns=sheet["sees"].unique())


def banded(what: str, value: float, low: float, high: float, digits: int = 1) -> str:
    """A line such as "chance: 20.3, expected 18 to 22: in band"; the value is judged as it is printed, rounded."""
    verdict = "in band" if low <= round(value, digits) <= high else "OUT OF BAND"
    return f"{what}: {value:.{digits}f}, expected {low:g} to {high:g}: {verdict}"


@dataclass(frozen=True)
class Pair:
    """Two classes and how alike they can look, from about 0.4 to 1 (`labkit.data.glyphs.likeness.likeness`)."""

    first: GlyphClass
    second: GlyphClass
    likeness: float


def nearest_pairs(dataset: str = "glyphs-mini", split: str | None = None, count: int = 8) -> tuple[Pair, ...]:
    """The `count` pairs of classes that look most alike, the most alike first.

    Args:
        dataset: one that is rendered.
        split: look among its classes only; None looks among those of all splits, also across them.
        count: pairs; where there are fewer, all.

    Raises:
        ValueError: an unknown dataset or split.
    """
    rows = [row for name in ((split,) if split else SPLITS) for row in classes_of(dataset, name)]
    alike = likeness([row.codepoint for row in rows])
    first, second = np.triu_indices(len(rows), 1)
    order = np.argsort(-alike[first, second], kind="stable")[:count]
    return tuple(Pair(rows[first[k]], rows[second[k]], float(alike[first[k], second[k]])) for k in order)


def as_alike_as_they_get(pair: Pair, size: int = 96) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both characters of a pair as they come nearest: in the typefaces, turn and perhaps mirror image that do it.

    Returns:
        Black on white, centred, uint8 [size, size] each; the first upright, the second as it comes nearest to it.
    """
    inks = [_inks(row.codepoint) for row in (pair.first, pair.second)]
    upright = describe(inks[0]).reshape(len(inks[0]), -1)
    turned = describe(inks[1], TURNS)
    mirrored = turned[:, :, [0, 1, 3, 2], :, ::-1]  # left is right, and one diagonal the other
    views = np.stack([turned, mirrored]).reshape(2, len(inks[1]), len(TURNS), -1)
    alike = np.einsum("mftd,gd->mftg", views, upright)
    mirror, face, turn, other = np.unravel_index(alike.argmax(), alike.shape)
    second = inks[1][face].rotate(TURNS[turn], Image.Resampling.BICUBIC, expand=True)
    return portrait(inks[0][other], size), portrait(ImageOps.mirror(second) if mirror else second, size)


def _inks(codepoint: int) -> list[Image.Image]:
    faces = [face for face in COMPARED_FACES if codepoint in covered(face)]
    images = [ink(codepoint, face, 2 * EM) for face in faces] or [drawing(codepoint)]
    return [image for image in images if image is not None]


def portrait(glyph: Image.Image, size: int = 96) -> NDArray[np.uint8]:
    """A glyph's ink (mode L) alone, black on white, centred, uint8 [size, size]."""
    glyph = glyph.crop(glyph.getbbox())
    scale = 0.8 * size / max(glyph.size)
    width, height = (max(1, round(scale * side)) for side in glyph.size)
    canvas = Image.new("L", (size, size), 255)
    black = Image.new("L", (width, height), 0)
    canvas.paste(black, ((size - width) // 2, (size - height) // 2), glyph.resize((width, height)))
    return np.asarray(canvas)
