"""Heads on one backbone: what a method adds learns, its backbone is never needed, and both make one model again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.data import ImageSet
from labkit.episodes.preprocessing import Preprocessing
from labkit.evaluation.feature_set import FeatureSet, embed_all
from labkit.evaluation.protocol import evaluate
from labkit.methods.classifier import Classifier
from labkit.methods.protonet import ProtoNet
from labkit.models.checkpoints import load_model, save_model
from labkit.own_images.calibration import calibrate
from labkit.own_images.classify import classify
from labkit.training.checkpoints import load_state
from labkit.training.heads import on_pictures, train_head
from tests.helpers.tiny import BASE, VALIDATION

EPISODES = {"way": 3, "query": 3, "validation_episodes": 20, "test_query": 5, "progress": False}


def backbone(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    net = Classifier("conv4", classes=6, backbone_options={"width": 16}).eval()
    net.preprocessing = Preprocessing.of(BASE)
    return net


def maps_of(net: Classifier, *images: ImageSet) -> list[FeatureSet]:
    return [embed_all(net, i, dtype="float32", cache=False, progress=False) for i in images]


@pytest.mark.integration
def test_a_head_learns_is_resumed_to_the_bit_and_becomes_a_model_of_pictures(tmp_path: Path) -> None:
    net = backbone()
    base, validation = maps_of(net, BASE, VALIDATION)
    options = {"alignment": "closed", "groups": 4, "score_scale": 0.1}
    whole = train_head("dmf", options, base, validation, tmp_path / "whole", steps=60, **EPISODES)
    first, *_, last = (m["auxiliary"] for m in whole.metrics if "loss" in m)
    assert last < first
    head = load_model(tmp_path / "whole" / "best.safetensors")
    assert not any(name.startswith("backbone.") for name in head.state_dict())
    model = on_pictures(head, net)
    results = [evaluate(m, i, 3, 1, 5, 40) for m, i in ((head, validation), (model, VALIDATION))]
    np.testing.assert_array_equal(results[0].per_episode, results[1].per_episode)
    save_model(model, tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").recipe()["backbone"] == "conv4"
    state = load_state(tmp_path / "whole" / "last.pt")
    assert state["step"] == 60
    again = train_head("dmf", options, base, validation, tmp_path / "whole", steps=60, **EPISODES)
    assert again.metrics == whole.metrics  # nothing is left to do
    with pytest.raises(ValueError, match="the head was trained on maps of the backbone"):
        on_pictures(head, backbone(seed=1))


def test_a_head_is_no_model_of_pictures_before_it_has_its_backbone() -> None:
    """Be the backbone one by name or a module of somebody's own."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, stride=8), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    picture = np.zeros((24, 24, 3), np.uint8)
    for net in (backbone(), Classifier(module, classes=6).eval()):
        net.preprocessing = Preprocessing.of(BASE)
        (maps,) = maps_of(net, BASE)
        head = ProtoNet("features", backbone_options=maps.backbone_options).eval()
        for head.preprocessing in (None, Preprocessing.of(maps)):
            with pytest.raises(ValueError, match=r"is a head of feature maps .* with labkit\.training\.heads\.on_pict"):
                classify(head, {"a": picture, "b": picture}, picture)
            with pytest.raises(ValueError, match="is a head of feature maps and reads no pictures"):
                calibrate(head, maps, [2], [1], episodes=2)
        whole = on_pictures(head, net)
        assert whole.backbone is not net.backbone
        results = [evaluate(m, i, 3, 1, 5, 10).per_episode for m, i in ((head, maps), (whole, BASE))]
        np.testing.assert_array_equal(*results)


def test_a_method_that_adds_nothing_is_only_measured(tmp_path: Path) -> None:
    base, validation = maps_of(backbone(), BASE, VALIDATION)
    trained = train_head("protonet", {}, base, validation, tmp_path, **EPISODES)
    assert trained.metrics == []
    back = load_model(tmp_path / "best.safetensors")
    assert evaluate(back, validation, 3, 1, 5, 20).accuracy == pytest.approx(trained.validation)


def test_maps_of_two_backbones_are_refused(tmp_path: Path) -> None:
    (base,), (validation,) = maps_of(backbone(), BASE), maps_of(backbone(seed=1), VALIDATION)
    with pytest.raises(ValueError, match="base and validation are of two backbones"):
        train_head("dmf", {}, base, validation, tmp_path)
    with pytest.raises(TypeError, match="base must be a FeatureSet"):
        train_head("dmf", {}, BASE, validation, tmp_path)  # type: ignore[arg-type]
