"""A training on one backbone: its feature maps, and how it is trained and measured."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from labkit.common.versions import versions
from labkit.data import ImageSet, load_images
from labkit.evaluation.feature_set import FeatureSet, embed_all
from labkit.evaluation.features import preprocessing_of
from labkit.evaluation.protocol import evaluate
from labkit.methods.base import Method
from labkit.models.checkpoints import load_model
from labkit.studies.tables.runs import Run
from labkit.training.heads import train_head
from labkit.training.logbook import Log
from labkit.training.phases import Phase
from labkit.training.settings import QUICK

WAY, QUERY, EPISODES, VALIDATION_EPISODES = 5, 15, 2000, 300
# Pictures of glyphs, as many as the quick setting takes.
FEWER: dict[str, dict[str, Any]] = {QUICK.dataset: {"per_class": QUICK.per_class}}


class Maps(NamedTuple):
    """Feature maps of base, validation and novel classes, of one backbone."""

    base: FeatureSet
    validation: FeatureSet
    novel: FeatureSet


def maps_of(
    backbone: str | Path,
    dataset: str,
    data_root: Path | str | None = None,
    progress: bool = False,
    mirrored: bool = False,
    novel: tuple[str, Path | str | None] | None = None,
) -> Maps:
    """The maps of all three splits, from the lab's cache where they were computed before.

    Args:
        backbone: a model's file or the name of a shipped one; only its backbone is used.
        dataset, data_root: of `labkit.load_images`; the size is the backbone's own, of glyphs 200 pictures a class.
        mirrored: of `embed_all`.
        novel: another data set, and its folder, for the novel classes.
    """
    model = load_model(backbone)
    own = dataset, data_root
    of_splits = {"train": own, "val": own, "test": novel or own}
    found = []
    for split, (name, root) in of_splits.items():
        # Files of another data set have another size: they are resized where the backbone's own may not have been.
        strict = split != "test" or novel is None
        pictures = images_of(model, name, split, root)
        found.append(embed_all(model, pictures, progress=progress, mirrored=mirrored, strict=strict))
    return Maps(*found)


def images_of(backbone: Method, dataset: str, split: str, data_root: Path | str | None = None) -> ImageSet:
    """The pictures that `maps_of` takes of a split: of the backbone's size, of glyphs 200 a class."""
    size = preprocessing_of(backbone).size
    return load_images(dataset, split, root=data_root, size=size, progress=False, **FEWER.get(dataset, {}))


def train_and_measure(
    method: str,
    options: dict[str, Any],
    maps: Maps,
    folder: Path,
    of: Run,
    phases: tuple[Phase, ...],
    *,
    look: bool = True,
    validation_episodes: int = VALIDATION_EPISODES,
    episodes: int = EPISODES,
    log: Log | None = None,
) -> Run:
    """Train a head, or go on with it, and look once at the novel classes.

    Args:
        method, options: of `labkit.training.heads.train_head`.
        of: what is known of the run: what it is, its shot, seed and command.
        look: at the novel classes; False while something is still being chosen.
        log: as in `labkit.train`.

    Returns:
        `of` with what was measured. A loss that is not finite is a result too: `diverged` says when.
    """
    resumed, known = (folder / "last.pt").exists(), asdict(of)
    known |= {"options": options, "versions": versions(), "threads": torch.get_num_threads()}
    started = time.perf_counter()
    common: dict[str, Any] = {"way": WAY, "shot": of.shot, "test_query": QUERY, "progress": False, "log": log}
    common["validation_episodes"] = validation_episodes
    try:
        trained = train_head(method, options, maps.base, maps.validation, folder, of.seed, phases=phases, **common)
    except FloatingPointError as error:
        return Run(**known | {"diverged": str(error)})
    known["seconds"] = None if resumed else round(time.perf_counter() - started, 1)
    known["validation"] = round(trained.validation, 3)
    known["weights"] = sum(p.numel() for p in trained.model.parameters())
    known["steps"] = max((m["step"] for m in trained.metrics), default=0)
    if look:
        own = maps.novel.provenance.dataset == maps.base.provenance.dataset
        result = evaluate(trained.model, maps.novel, WAY, of.shot, QUERY, episodes, strict=own)
        known["novel"] = result.summary()
        known["correct"] = " ".join(map(str, np.rint(result.per_episode * WAY * QUERY / 100).astype(int)))
    return Run(**known)
