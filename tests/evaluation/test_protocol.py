"""The protocol: intervals, embedding once, the model left as it was."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation import protocol
from labkit.evaluation.feature_set import embed_all
from labkit.evaluation.protocol import evaluate
from tests.helpers.toys import toy_images

IMAGES = toy_images(classes=7, per_class=20, split="test")


def tiny() -> DMF:
    torch.manual_seed(0)
    return DMF("conv4", groups=4, backbone_options={"width": 8}, alignment="closed")


class Guess(nn.Module):
    """Scores drawn from the features alone; counts the images it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.embedded = 0

    def embed(self, images: Tensor) -> Tensor:
        self.embedded += len(images)
        return images.mean((1, 2, 3)).view(-1, 1, 1, 1)

    def score(self, support: Tensor, query: Tensor) -> Tensor:
        return -(query[:, :, None, 0, 0, 0] - support[:, None, :, :, 0, 0, 0].mean(-1)).abs()


def test_accuracy_and_interval_are_those_of_a_plain_loop() -> None:
    model = tiny().eval()
    result = evaluate(model, IMAGES, 4, 2, 3, episodes=12, seed=3)
    sampler = EpisodeSampler(IMAGES, 4, 2, 3, seed=3)
    by_hand = []
    for i in range(12):
        episode = sampler[i]
        with torch.no_grad():
            scores = model(episode.support[None], episode.query[None])[0]
        by_hand.append(100 * (scores.argmax(1) == episode.query_labels).float().mean().item())
    np.testing.assert_allclose(result.per_episode, by_hand, atol=1e-4)
    assert result.accuracy == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert result.summary()["source_size"] == "24x24"
    assert result.summary()["resampling"] == "none"
    assert result.ci95 == pytest.approx(1.96 * np.std(by_hand, ddof=1) / np.sqrt(12), abs=1e-4)


def test_a_model_that_ignores_the_images_is_at_chance() -> None:
    noise = toy_images(classes=10, per_class=20)
    noise.pixels[:] = np.random.default_rng(0).integers(0, 255, noise.pixels.shape)
    result = evaluate(Guess(), noise, 5, 1, 10, episodes=400)
    assert abs(result.accuracy - 20) < 3 * result.ci95
    assert result.class_interval is not None
    low, high = result.class_interval
    assert low < result.accuracy < high
    assert (result.accuracy - low) >= result.ci95
    assert "over other classes" in repr(result)


def test_of_few_episodes_nothing_is_said_of_other_classes() -> None:
    result = evaluate(Guess(), IMAGES, 4, 1, 3, episodes=4)
    assert result.class_interval is result.summary()["class_interval"] is None
    assert "other classes" not in repr(result)


def test_embeds_every_image_once_or_in_groups_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Guess()
    once = evaluate(model, IMAGES, 5, 1, 5, episodes=60)
    assert model.embedded <= len(IMAGES) + 1  # one more to learn a feature's size
    monkeypatch.setattr(protocol, "FEATURE_BYTES", 4 * 40)
    grouped = evaluate(model, IMAGES, 5, 1, 5, episodes=60)
    np.testing.assert_array_equal(once.per_episode, grouped.per_episode)
    assert model.embedded > 3 * len(IMAGES)


@pytest.mark.parametrize("training", [True, False])
def test_leaves_modes_and_statistics_as_they_were(training: bool) -> None:
    model = tiny().train(training)
    model.backbone.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(model, IMAGES, episodes=2, query=3)
    assert model.training is training
    assert not any(m.training for m in model.backbone.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_chunks_do_not_change_the_result() -> None:
    model = tiny()
    one, many = (evaluate(model, IMAGES, episodes=9, query=3, chunk=c).per_episode for c in (1, 5))
    np.testing.assert_array_equal(one, many)


def test_refuses_images_prepared_otherwise() -> None:
    model = tiny()
    model.preprocessing = Preprocessing(84, "bicubic")
    with pytest.raises(ValueError, match=r"trained on 84 px.*24 px"):
        evaluate(model, IMAGES, episodes=2, query=3)
    evaluate(model, IMAGES, episodes=2, query=3, strict=False)


def test_mixed_precision_rounds_the_features_and_is_recorded() -> None:
    asked = []

    class Seen(DMF):
        def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
            asked.append(query)
            return super().score(support, query, support_mask)

    model = Seen("conv4", groups=4, backbone_options={"width": 8}, classes=6, alignment="closed").eval()
    model.preprocessing = Preprocessing.of(IMAGES)
    results = [evaluate(model, IMAGES, 3, 1, 2, 2, bfloat16=flag) for flag in (False, True)]
    assert [result.settings["precision"] for result in results] == ["float32", "bfloat16"]
    full, rounded = asked[0].float(), asked[len(asked) // 2].float()
    assert not torch.equal(full, rounded)
    torch.testing.assert_close(full, rounded, atol=0.1, rtol=0.1)
    assert evaluate(model.double(), IMAGES, 3, 1, 2, 2).settings["precision"] == "float64"


def test_a_head_reads_no_maps_of_another_backbone() -> None:
    backbone = tiny()
    backbone.preprocessing = Preprocessing.of(IMAGES)
    maps = embed_all(backbone, IMAGES, cache=False, progress=False)
    head = DMF("features", groups=4, backbone_options=maps.backbone_options | {"digest": "another"}, classes=6).eval()
    head.preprocessing = Preprocessing.of(maps)
    with pytest.raises(ValueError, match="the head was trained on maps of the backbone another, these are of"):
        evaluate(head, maps, 3, 1, 2, 2)


def test_one_episode_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        evaluate(tiny(), IMAGES, episodes=1)


def test_scores_that_are_no_numbers_are_not_taken_for_the_first_class() -> None:
    model = tiny()
    model.filter_conv.weight.data[0] = float("nan")
    said = "scores are not finite in episodes 0 to 0: the weights may hold NaN, or the pictures .* than in training"
    with pytest.raises(FloatingPointError, match=f"{said}$"):
        evaluate(model, IMAGES, episodes=2, query=3)
    with pytest.raises(FloatingPointError, match=f"{said}, or dopri5 did not converge"):
        evaluate(model.variant(alignment="dopri5"), IMAGES, episodes=2, query=3)
