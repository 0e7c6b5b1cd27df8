"""The paper's protocol: accuracy over many episodes of novel classes, with intervals (section 5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from labkit.common import checks
from labkit.data.imageset import ImageSet
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler

BROKEN = "the model's weights are broken, or were trained on images of another kind"
FEATURE_BYTES = 6 * 2**30  # episodes are taken in groups whose features fit into this


class FewShotModel(Protocol):
    """What `evaluate` needs of a method; `labkit.DMF` and whatever is compared with it has them."""

    def embed(self, images: Tensor, /) -> Tensor: ...
    def score(self, support: Tensor, query: Tensor, /) -> Tensor: ...


@dataclass(frozen=True, repr=False)
class Result:
    """Accuracy over episodes, in percent.

    Attributes:
        accuracy: mean over episodes.
        ci95: half width of the 95 % interval over episodes, 1.96 sd / sqrt(n), as the paper reports.
        class_interval: 95 % interval when the novel classes are drawn anew (bootstrap). Episodes can be drawn without
            end, classes cannot: with twenty of them this interval is the one that speaks of other classes.
        per_episode: [episodes].
        settings: way, shot, query, episodes, seed, dataset, split, precision.
    """

    accuracy: float
    ci95: float
    class_interval: tuple[float, float]
    per_episode: NDArray[np.float64]
    settings: dict[str, Any]

    def __repr__(self) -> str:
        s = self.settings
        return (
            f"{self.accuracy:.2f} ± {self.ci95:.2f} % ({s['way']}-way {s['shot']}-shot, {s['episodes']} episodes of "
            f"{s['dataset']} {s['split']}, seed {s['seed']}; over other classes {self.class_interval[0]:.1f} to "
            f"{self.class_interval[1]:.1f} %)"
        )

    def summary(self) -> dict[str, Any]:
        """All but the single episodes, in JSON types."""
        return {
            "accuracy": round(self.accuracy, 3),
            "ci95": round(self.ci95, 3),
            "class_interval": [round(v, 2) for v in self.class_interval],
        } | self.settings


def evaluate(
    model: torch.nn.Module,
    images: ImageSet,
    way: int = 5,
    shot: int = 1,
    query: int = 15,
    episodes: int = 2000,
    seed: int = 0,
    *,
    bfloat16: bool = False,
    chunk: int | None = None,
    strict: bool = True,
    progress: bool = False,
) -> Result:
    """Accuracy of a few-shot model on episodes of `images`.

    At test time a feature does not depend on its episode, so every image is embedded once and the episodes are run on
    features. The model stays on its device and in the mode it was in.

    Args:
        model: has `embed` and `score` (see `FewShotModel`).
        images: novel classes; validation classes when anything is selected by the result.
        way, shot, query, episodes, seed: of the `EpisodeSampler`; `query` counts per class.
        bfloat16: embed in mixed precision.
        chunk: episodes scored at once; by default one, whose pairs stay in a processor's cache, on a GPU sixteen.
        strict: refuse images prepared otherwise than the model's own.
        progress: show a bar.

    Raises:
        ValueError: fewer than 2 episodes, images prepared otherwise, or more asked of a class than it has.
        TypeError: a model without `embed` and `score`, or images that are no `ImageSet`.
        FloatingPointError: scores that are not numbers, of which the largest would be the first class by chance.
    """
    if not (isinstance(model, torch.nn.Module) and hasattr(model, "embed") and hasattr(model, "score")):
        raise TypeError(f"model must be a module with embed and score, as labkit.DMF is, got a {type(model).__name__}")
    checks.kind("images", images, ImageSet, "an ImageSet, as labkit.load_images gives")
    checks.whole("episodes, for an interval,", episodes, least=2)
    checks.whole("chunk", 1 if chunk is None else chunk)
    method = cast(FewShotModel, model)
    preprocessing: Preprocessing | None = getattr(model, "preprocessing", None)
    if preprocessing is not None and strict:
        preprocessing.check(images)
    device = next(model.parameters()).device
    chunk = chunk or (16 if device.type == "cuda" else 1)
    sampler = EpisodeSampler(images, way, shot, query, seed, preprocessing=preprocessing)
    drawn = [sampler.indices(i) for i in range(episodes)]
    correct = np.zeros((episodes, way))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode(), tqdm(total=episodes, desc="episodes", disable=not progress, leave=False) as bar:
            for group in _groups(drawn, _feature_bytes(method, sampler, device)):
                used = np.unique(np.concatenate([np.append(drawn[i][1], drawn[i][2]) for i in group]))
                features = _embed(method, sampler, used, device, bfloat16)
                mirrored = getattr(model, "shows_mirrored", lambda shots: False)(shot)
                flipped = _embed(method, sampler, used, device, bfloat16, flip=True) if mirrored else None
                for start in range(0, len(group), chunk):
                    part = group[start : start + chunk]
                    shown, asked = (
                        torch.from_numpy(np.searchsorted(used, np.stack([drawn[i][j] for i in part]))) for j in (1, 2)
                    )
                    support, queries = features[shown], features[asked]
                    if flipped is not None:
                        support = torch.cat([support, flipped[shown]], dim=2)
                    scores = method.score(support, queries)
                    if scores.isnan().any():
                        raise FloatingPointError(f"scores are not finite in episodes {part[0]} to {part[-1]}: {BROKEN}")
                    predicted = scores.argmax(-1).cpu().numpy()
                    for i, guess in zip(part, predicted, strict=True):
                        labels = drawn[i][3]
                        correct[i] = np.bincount(labels, guess == labels, minlength=way) / query
                    bar.update(len(part))
    finally:
        for module, training in modes.items():  # one by one: a part may have been frozen
            module.training = training
    per_episode = 100 * correct.mean(1)
    accuracy, ci95 = estimate(per_episode)
    settings = {
        "way": way,
        "shot": shot,
        "query": query,
        "episodes": episodes,
        "seed": seed,
        "dataset": images.provenance.dataset,
        "split": images.provenance.split,
        "size": images.size,
        "layout": images.provenance.layout,
        "source_size": images.provenance.source_size,
        "resampling": images.provenance.resampling,
        "digest": images.provenance.digest,
        "precision": "bfloat16" if bfloat16 else "float32",
    }
    return Result(
        accuracy=accuracy,
        ci95=ci95,
        class_interval=_class_interval(correct, np.stack([d[0] for d in drawn]), len(images.class_names), seed),
        per_episode=per_episode,
        settings=settings,
    )


def estimate(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean over episodes and the half width of its 95 % interval."""
    return float(values.mean()), float(1.96 * values.std(ddof=1) / len(values) ** 0.5)


def _class_interval(
    correct: NDArray[np.float64], classes: NDArray[np.int64], count: int, seed: int, draws: int = 1000
) -> tuple[float, float]:
    """Bootstrap over classes: an episode's class counts as often as its class was drawn."""
    share = np.bincount(classes.ravel(), correct.ravel(), minlength=count)
    seen = np.bincount(classes.ravel(), minlength=count)
    rng = np.random.default_rng((seed, 2))
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    low, high = np.percentile(100 * (weights @ share) / np.maximum(weights @ seen, 1), [2.5, 97.5])
    return float(low), float(high)


def _embed(
    model: FewShotModel,
    sampler: EpisodeSampler,
    index: NDArray[np.int64],
    device: torch.device,
    bfloat16: bool,
    flip: bool = False,
) -> Tensor:
    features = torch.empty(0)
    for start in range(0, len(index), 256):
        some = torch.from_numpy(index[start : start + 256])
        unit = sampler.preprocessing.to_unit(sampler.pixels[some].to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            part = model.embed(sampler.preprocessing.normalise(unit.flip(-1) if flip else unit))
        if start == 0:  # filled in place: a list to be joined would take the memory twice
            features = part.new_empty(len(index), *part.shape[1:])
        features[start : start + 256] = part
    return features


def _feature_bytes(model: FewShotModel, sampler: EpisodeSampler, device: torch.device) -> int:
    feature = _embed(model, sampler, np.zeros(1, dtype=np.int64), device, False)
    return feature.numel() * feature.element_size()


def _groups(drawn: Sequence[tuple[NDArray[np.int64], ...]], bytes_each: int) -> Iterator[list[int]]:
    """Consecutive episodes whose images' features fit into memory together; usually all of them."""
    group: list[int] = []
    used: set[int] = set()
    for i, episode in enumerate(drawn):
        own = set(episode[1].ravel().tolist()) | set(episode[2].tolist())
        if group and len(used | own) * bytes_each > FEATURE_BYTES:
            yield group
            group, used = [], set()
        group.append(i)
        used |= own
    yield group
