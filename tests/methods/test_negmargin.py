"""Negative margin against its authors' numbers: the loss of base images, and the classifier trained in the test."""

import pytest
import torch
from torch import Tensor

from labkit.methods.negmargin import NegativeMargin
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden


@pytest.fixture(scope="module")
def arrays() -> dict[str, Tensor]:
    return golden("negative_margin")


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("form", ["cosine", "softmax"])
@pytest.mark.parametrize("margin", range(5))
def test_the_loss_of_base_images_is_the_released_code(
    arrays: dict[str, Tensor], shots: int, form: str, margin: int
) -> None:
    k = f"k{shots}/train/{form}/margin{margin}/"
    value, scale = float(arrays["hyper/margins"][margin]), 30.0 if form == "cosine" else 5.0
    model = NegativeMargin(Features(32), classes=20, form=form, margin=value, scale=scale).double()
    model.global_classifier.weight.data.copy_(arrays["weights/weight"])
    images = arrays[f"k{shots}/query"].clone().requires_grad_()
    labels = arrays[f"k{shots}/query_base_labels"]
    losses = model.classification_loss(images, labels)
    losses.total.backward()
    own = scale * value * torch.nn.functional.one_hot(labels, 20)
    check("logits", losses.scores - own, arrays[k + "logits"], SCORES)
    check("loss", losses.total, arrays[k + "loss"], SCORES)
    if k + "grad_query" in arrays:
        check("gradient of images", images.grad, arrays[k + "grad_query"], GRADIENTS)
        check("gradient of weights", model.global_classifier.weight.grad, arrays[k + "grad_weight"], GRADIENTS)


@pytest.mark.parametrize("shots", [1, 5])
def test_the_classifier_of_the_test_is_the_released_code(arrays: dict[str, Tensor], shots: int) -> None:
    k = f"k{shots}/finetune/"
    model = NegativeMargin(Features(32), classes=20).double().eval()
    support, query = (arrays[f"k{shots}/{name}"].mean((-2, -1))[None] for name in ("support", "query"))
    weights = model.finetuned(support, arrays[k + "initial_weight"][None], arrays[k + "permutations"].long())
    check("weights", weights[0], arrays[k + "final_weight"], SCORES)
    cosines = torch.cosine_similarity(query[0, :, None], weights, dim=-1)
    check("scores", 5 * cosines, arrays[k + "scores"], SCORES)


@pytest.mark.parametrize("form", ["cosine", "softmax"])
def test_training_a_classifier_is_torchs_gradient_descent(form: str) -> None:
    torch.manual_seed(0)
    model = NegativeMargin(Features(4), classes=3, form=form).double().eval()
    support, first = torch.rand(2, 3, 2, 4).double(), torch.rand(2, 3, 4).double()
    order = torch.stack([torch.randperm(6) for _ in range(3)])
    found = model.finetuned(support, first, order)
    labels = torch.arange(3).repeat_interleave(2)
    for e in range(2):
        weight = first[e].clone().requires_grad_()
        descent = torch.optim.SGD([weight], 0.01, momentum=0.9, dampening=0.9, weight_decay=1e-3)
        for batch in (part for epoch in order for part in epoch.split(4)):
            x = support[e].flatten(0, 1)[batch]
            alike = torch.cosine_similarity(x[:, None], weight, dim=-1) if form == "cosine" else x @ weight.T
            descent.zero_grad()
            torch.nn.functional.cross_entropy(5 * alike, labels[batch]).backward()
            descent.step()
        torch.testing.assert_close(found[e], weight.detach())


def test_an_episode_is_classified_with_its_support() -> None:
    torch.manual_seed(0)
    model = NegativeMargin(Features(4), classes=7).double().train()
    support, query = torch.randn(1, 3, 2, 4, 2, 2).double(), torch.randn(1, 3, 4, 2, 2).double()
    losses = model.loss(support, query, torch.tensor([[2, 0, 1]]), torch.tensor([[6, 3, 4]]))
    images = torch.cat([support.flatten(0, 2), query[0]])
    alone = model.classification_loss(images, torch.tensor([3, 3, 4, 4, 6, 6, 6, 3, 4]))
    torch.testing.assert_close(losses.total, alone.total)
    means = torch.nn.functional.normalize(support.mean((-2, -1)), dim=-1).mean(2)
    cosines = torch.cosine_similarity(query.mean((-2, -1))[0, :, None], means, dim=-1)
    torch.testing.assert_close(losses.scores[0], 30 * cosines)
