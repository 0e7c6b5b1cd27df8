"""Feature maps of toy pictures from an untrained small backbone: what heads are tried on in tests."""

from __future__ import annotations

import torch

from labkit.episodes.preprocessing import Preprocessing
from labkit.evaluation.feature_set import embed_all
from labkit.methods.classifier import Classifier
from labkit.studies.tables.head_runs import Maps
from tests.helpers.toys import toy_images

PICTURES = tuple(toy_images(seed=i, split=split) for i, split in enumerate(("train", "val", "test")))


def backbone() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Classifier("conv4", classes=6, backbone_options={"width": 16}).eval()
    net.preprocessing = Preprocessing.of(PICTURES[0])
    return net


def toy_maps() -> Maps:
    return Maps(*(embed_all(backbone(), i, dtype="float32", cache=False, progress=False) for i in PICTURES))
