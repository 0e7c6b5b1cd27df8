"""Classifier-Baseline: nearest means by their cosine, and a dense or pooled classification of base classes."""

import pytest
import torch
from torch.nn import functional as F

from labkit.methods.classifier import Classifier, nearest_mean


def test_a_score_is_the_cosine_with_the_mean_of_normalised_shots() -> None:
    torch.manual_seed(0)
    support, query = torch.randn(2, 3, 2, 5, 4, 4), torch.randn(2, 6, 5, 4, 4)
    found = nearest_mean(support, query)
    for e in range(2):
        for n in range(3):
            shots = [F.normalize(support[e, n, k].mean((1, 2)), dim=0) for k in range(2)]
            for q in range(6):
                alike = F.cosine_similarity(query[e, q].mean((1, 2)), shots[0] + shots[1], dim=0)
                assert float(found[e, q, n]) == pytest.approx(float(alike), abs=1e-6)
    mask = torch.ones(2, 3, 2, dtype=torch.bool)
    mask[:, :, 1] = False
    torch.testing.assert_close(nearest_mean(support, query, mask), nearest_mean(support[:, :, :1], query))


@pytest.mark.parametrize("dense", [True, False])
def test_episodes_and_pictures_teach_the_same_classification(dense: bool) -> None:
    """On an episode's queries the loss is that of the same pictures one by one."""
    torch.manual_seed(0)
    model = Classifier("conv4", classes=7, backbone_options={"width": 8}, dense=dense).eval()
    support, query = torch.randn(1, 2, 1, 3, 24, 24), torch.randn(1, 4, 3, 24, 24)
    labels, base = torch.tensor([[0, 1, 1, 0]]), torch.tensor([[3, 6, 6, 3]])
    episode = model.loss(support, query, labels, base)
    pictures = model.classification_loss(query[0], base[0])
    torch.testing.assert_close(episode.total, pictures.total)
    logits = model.global_classifier(model.embed(query[0]) if dense else model.embed(query[0]).mean((-2, -1)))
    by_hand = F.cross_entropy(logits, base[0][:, None, None].expand(-1, 3, 3) if dense else base[0])
    torch.testing.assert_close(pictures.total, by_hand)
    assert episode.scores.shape == (1, 4, 2)
