"""Dynamic Few-shot against the numbers of the authors' code, and its roles of classes in training."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.methods.base_and_novel import roles
from labkit.methods.dynamic_fewshot import DynamicFewShot
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden, put_weights

ARRAYS = golden("dynamic_fewshot")
THEIRS = {"attention": "attention_based", "averaging": "feature_averaging", "none": "none"}
NAMES: dict[str, dict[str, str]] = {
    "none": {"base_weights": "weight_base", "scale": "scale_cls"},
    "averaging": {"of_average": "wnLayerFavg.weight"},
    "attention": {
        "of_attention": "wnLayerWatt.weight",
        "keys": "attblock.wkeys",
        "sharpness": "attblock.scale_att",
        "to_query.weight": "attblock.queryLayer.weight",
        "to_query.bias": "attblock.queryLayer.bias",
    },
}


def names(kind: str) -> dict[str, str]:
    """The model's names of weights and the authors'; their `bias`, which changes no probability, has none."""
    own = {"none": ["none"], "averaging": ["none", "averaging"], "attention": ["none", "averaging", "attention"]}[kind]
    return {k: v for part in own for k, v in NAMES[part].items()}


def model(kind: str) -> DynamicFewShot:
    made = DynamicFewShot(Features(8), classes=20, kind=kind, read_out="map", cells=4).double()
    put_weights(made, ARRAYS, f"{THEIRS[kind]}/weights/", names(kind))
    return made.eval()


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("kind", ["attention", "averaging", "none"])
def test_it_computes_what_the_authors_code_computes(kind: str, shots: int) -> None:
    made = model(kind)
    support, query = (ARRAYS[f"k{shots}/{x}"][None].requires_grad_() for x in ("support", "query"))
    base, labels = ARRAYS[f"k{shots}/base_ids"][None], ARRAYS[f"k{shots}/query_labels"]
    at = f"{THEIRS[kind]}/k{shots}/"
    weights = made.class_weights(support, base)
    logits = made.logits(query, weights)
    loss = F.cross_entropy(logits[0], labels)
    check("class weights", weights[0], ARRAYS[at + "class_weights"], SCORES)
    bias = ARRAYS[f"{THEIRS[kind]}/weights/bias"] * ARRAYS[f"{THEIRS[kind]}/weights/scale_cls"]
    check("scores", logits[0] + bias, ARRAYS[at + "scores"], SCORES)
    check("loss", loss, ARRAYS[at + "loss"], SCORES)
    loss.backward()
    for x, name in ((support, "support"), (query, "query")):
        assert x.grad is not None
        check(f"gradient of the {name}", x.grad[0], ARRAYS[f"{at}grad_{name}"], GRADIENTS)
    for own, theirs in names(kind).items():
        found = made.get_parameter(own).grad
        assert found is not None
        expected = ARRAYS[f"{at}grad_weights/{theirs}"]
        check(f"gradient of {own}", found.reshape(expected.shape), expected, GRADIENTS)


def training_episode() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four classes, two of which may play novel, with two queries each, as maps."""
    torch.manual_seed(3)
    labels = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]] * 2)
    own = torch.tensor([[7, 3, 12, 5], [2, 19, 0, 11]])
    return torch.randn(2, 4, 1, 8, 2, 2).double(), torch.randn(2, 8, 8, 2, 2).double(), labels, own.gather(1, labels)


def test_queries_of_both_kinds_are_told_apart_among_all_classes() -> None:
    made = model("attention")
    made.novel = 2
    support, query, labels, base_labels = training_episode()
    losses = made.loss(support, query, labels, base_labels)
    terms = []
    for e in range(2):
        novel = base_labels[e, :2].tolist()
        base = [c for c in range(20) if c not in novel]
        logits = made.logits(query[e, None], made.class_weights(support[e, None, :2], torch.tensor([base])))[0]
        where = [18, 19, base.index(int(base_labels[e, 2])), base.index(int(base_labels[e, 3]))]
        terms.append(F.cross_entropy(logits, torch.tensor(where * 2)))
        torch.testing.assert_close(losses.scores[e], logits[:, where])
    torch.testing.assert_close(losses.total, torch.stack(terms).mean())


def test_its_score_is_the_novel_part_beside_all_base_classes() -> None:
    made = model("attention")
    support, query = training_episode()[:2]
    everything = made.logits(query, made.class_weights(support, torch.arange(20).expand(2, -1)))
    torch.testing.assert_close(made.score(support, query), everything[..., 20:])


def test_base_images_are_classified_by_cosine() -> None:
    made = model("none")
    images, labels = training_episode()[1][0], torch.arange(8)
    losses = made.classification_loss(images, labels)
    logits = 8.5 * F.cosine_similarity(images.flatten(1)[:, None], made.base_weights[None], dim=-1)
    torch.testing.assert_close(losses.total, F.cross_entropy(logits, labels))


def test_what_cannot_be_is_refused() -> None:
    labels = torch.tensor([[0, 1, 2]])
    with pytest.raises(ValueError, match=r"1 to 3 classes .* got 4"):
        roles(labels, labels, 3, 4, 20)
    with pytest.raises(ValueError, match="4 cells, and was given 3 x 3"):
        model("none").score(torch.randn(1, 2, 1, 8, 3, 3), torch.randn(1, 2, 8, 3, 3))
    with pytest.raises(ValueError, match="kind must be"):
        DynamicFewShot(Features(8), kind="other")
    with pytest.raises(ValueError, match="read_out must be"):
        DynamicFewShot(Features(8), read_out="max")
