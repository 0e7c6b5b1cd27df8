"""The paper's protocol: accuracy over many episodes of novel classes, with intervals (section 5.1)."""

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from labkit.common import checks
from labkit.data.imageset import ImageSet
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.features import FewShotModel, embed, eval_mode
from labkit.evaluation.intervals import over_classes, over_episodes
from labkit.evaluation.play import Features, groups, on_features, pictures_of

FEATURE_BYTES = 6 * 2**30  # episodes are taken in groups whose features fit into this


def why_not_finite(model: torch.nn.Module) -> str:
    """What can make a model's scores NaN, for the message of an error."""
    said = "the weights may hold NaN, or the pictures may be scaled otherwise than in training"
    adaptive = getattr(getattr(model, "rule", None), "name", "") == "dopri5"
    return f"{said}, or dopri5 did not converge (try alignment='rk4')" if adaptive else said


@dataclass(frozen=True, repr=False)
class Result:
    """Accuracy over episodes, in percent.

    Attributes:
        accuracy: mean over episodes.
        ci95: half width of the 95 % interval over episodes, 1.96 sd / sqrt(n), as the paper reports.
        class_interval: 95 % interval had the novel classes been drawn anew (`intervals.over_classes`), which speaks of
            other classes than the twenty that were tested; None where the episodes are too few to tell.
        per_episode: [episodes].
        settings: way, shot, query, episodes, seed, dataset, split, classes (their number), precision.
    """

    accuracy: float
    ci95: float
    class_interval: tuple[float, float] | None
    per_episode: NDArray[np.float64]
    settings: dict[str, Any]

    def __repr__(self) -> str:
        s, other = self.settings, ""
        if self.class_interval is not None:
            other = "; over other classes {:.1f} to {:.1f} %".format(*self.class_interval)
        return (
            f"{self.accuracy:.2f} ± {self.ci95:.2f} % ({s['way']}-way {s['shot']}-shot, {s['episodes']} episodes of "
            f"{s['dataset']} {s['split']}, seed {s['seed']}{other})"
        )

    def summary(self) -> dict[str, Any]:
        """The result in JSON types, without the accuracies of single episodes."""
        return {
            "accuracy": round(self.accuracy, 3),
            "ci95": round(self.ci95, 3),
            "class_interval": None if self.class_interval is None else [round(v, 2) for v in self.class_interval],
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

    Every image is embedded once and the episodes are played on features (`labkit.evaluation.play`). The model stays on
    its device and in the mode it was in.

    Args:
        model: has `embed` and `score` (see `FewShotModel`).
        images: novel classes; validation classes when anything is selected by the result.
        way, shot, query, episodes, seed: of the `EpisodeSampler`; `query` counts per class.
        bfloat16: embed in mixed precision.
        chunk: episodes scored at once; by default one, whose pairs stay in a processor's cache, on a GPU sixteen.
        strict: refuse images prepared otherwise than the model's own.

    Raises:
        ValueError: fewer than 2 episodes, images prepared otherwise, maps of another backbone than the head was trained
            on, maps for a model of pictures or the other way round, or more asked of a class than it has.
        TypeError: a model without `embed` and `score`, or images that are no `ImageSet`.
        FloatingPointError: scores that are not numbers, of which the largest would be the first class by chance.
    """
    if not (isinstance(model, torch.nn.Module) and hasattr(model, "embed") and hasattr(model, "score")):
        raise TypeError(f"model must be a module with embed and score, as labkit.DMF is, got a {type(model).__name__}")
    checks.kind("images", images, ImageSet, "an ImageSet, as labkit.load_images gives")
    episodes = checks.check_int("episodes, for an interval,", episodes, least=2)
    chunk = None if chunk is None else checks.check_int("chunk", chunk)
    bfloat16, strict, progress = (
        checks.flag(name, value) for name, value in (("bfloat16", bfloat16), ("strict", strict), ("progress", progress))
    )
    method = cast(FewShotModel, model)
    preprocessing: Preprocessing | None = getattr(model, "preprocessing", None)
    if preprocessing is not None and strict:
        preprocessing.check(images)
    wanted, found = getattr(getattr(model, "backbone", None), "digest", ""), getattr(images, "backbone", "")
    if wanted and found and wanted != found and strict:
        raise ValueError(f"the head was trained on maps of the backbone {wanted}, these are of {found}")
    first = next(model.parameters(), torch.zeros(()))  # a head may have no weights at all
    device = first.device
    chunk = chunk or (16 if device.type == "cuda" else 1)
    sampler = EpisodeSampler(images, way, shot, query, seed, preprocessing=preprocessing)
    way, shot, query, seed = sampler.way, sampler.shot, sampler.query, sampler.seed
    drawn = [sampler.indices(i) for i in range(episodes)]
    correct = np.zeros((episodes, way))
    with eval_mode(model), tqdm(total=episodes, desc="episodes", disable=not progress, leave=False) as bar:
        embedded = partial(embed, method, sampler.prepare.pixels, sampler.prepare.preprocessing, device)
        one = embedded(np.zeros(1, dtype=np.int64))
        for group in groups(drawn, FEATURE_BYTES // (one.numel() * one.element_size())):
            used = pictures_of([drawn[i] for i in group])
            features = Features(embedded(used, bfloat16), used)
            mirrored = None
            if getattr(model, "shows_mirrored", lambda shots: False)(shot):
                mirrored = Features(embedded(used, bfloat16, mirrored=True), used)
            for start in range(0, len(group), chunk):
                part = group[start : start + chunk]
                played = on_features([drawn[i] for i in part], features, mirrored=mirrored)
                scores = method.score(played.support, played.query)
                if not scores.amax(-1).isfinite().all():  # NaN, or no largest one
                    where = f"in episodes {part[0]} to {part[-1]}"
                    raise FloatingPointError(f"scores are not finite {where}: {why_not_finite(model)}")
                predicted = scores.argmax(-1).cpu().numpy()
                for i, guess, labels in zip(part, predicted, played.labels, strict=True):
                    correct[i] = np.bincount(labels, guess == labels, minlength=way) / query
                bar.update(len(part))
    per_episode = 100 * correct.mean(1)
    accuracy, ci95 = over_episodes(per_episode)
    half = over_classes(per_episode, np.stack([d[0] for d in drawn]), len(images.class_names))
    settings = {
        "way": way,
        "shot": shot,
        "query": query,
        "episodes": episodes,
        "seed": seed,
        "dataset": images.provenance.dataset,
        "split": images.provenance.split,
        "classes": len(images.class_names),
        "size": images.size,
        "layout": images.provenance.layout,
        "source_size": images.provenance.source_size,
        "resampling": images.provenance.resampling,
        "digest": images.digest,
        "precision": "bfloat16" if bfloat16 else str(first.dtype).removeprefix("torch."),
    }
    return Result(
        accuracy=accuracy,
        ci95=ci95,
        class_interval=None if np.isnan(half) else (max(accuracy - half, 0.0), min(accuracy + half, 100.0)),
        per_episode=per_episode,
        settings=settings,
    )
