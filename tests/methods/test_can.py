"""CAN against its authors' numbers; and its older form, against formulas written naively."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.episodes.preprocessing import Preprocessing
from labkit.methods.can import CAN
from labkit.models.checkpoints import load_model, save_model
from labkit.models.small import small_model
from tests.helpers.features import Features, random_maps
from tests.helpers.rival_episodes import episode
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden, put_weights

SHAPE = {"e": 2, "n": 3, "k": 2, "q": 4, "c": 5, "h": 2, "w": 3}


@pytest.fixture
def model() -> CAN:
    torch.manual_seed(0)
    return CAN(Features(SHAPE["c"]), classes=7, cells=6, reduction=2, fuse="sum", fusion_norm=False).double()


NAMES = {"fusion.0": "cam.conv1.conv", "fusion.1": "cam.conv1.bn", "fusion.3": "cam.conv2"}
NAMES |= {"global_classifier": "clasifier"}
WEIGHTS = {f"{own}.{w}": f"{theirs}.{w}" for own, theirs in NAMES.items() for w in ("weight", "bias")}
RUNNING = {f"fusion.1.{w}": f"cam.conv1.bn.{w}" for w in ("running_mean", "running_var")}


@pytest.mark.parametrize("shots", [1, 5])
def test_it_is_the_released_code(shots: int) -> None:
    arrays, k = golden("can"), f"k{shots}/"
    model = CAN(Features(16), classes=20, cells=36).double()
    put_weights(model, arrays, "weights/", WEIGHTS | RUNNING)
    support, query, labels = episode(arrays, shots)
    with torch.no_grad():
        check("scores", model.eval().score(support, query)[0], arrays[k + "scores"], SCORES)
        attention = model.attention(support.mean(2), query)
        for name, found in zip(("support", "query"), attention, strict=True):
            check(f"attention of {name}", 1 + found[0], arrays[f"{k}attention_{name}"], SCORES)
    losses = model.train().loss(support, query, labels, arrays[k + "query_base_labels"][None])
    losses.total.backward()
    check("loss", losses.total, arrays[k + "loss"], SCORES)
    check("few-shot loss", losses.few_shot, arrays[k + "loss_few_shot"], SCORES)
    check("global loss", losses.auxiliary, arrays[k + "loss_global"], SCORES)
    for name, features in (("support", support), ("query", query)):
        check(f"gradient of {name}", features.grad[0], arrays[f"{k}grad_{name}"], GRADIENTS)
    weights, state = dict(model.named_parameters()), model.state_dict()
    for own, theirs in WEIGHTS.items():
        gradient = weights[own].grad
        if own == "fusion.0.bias":  # in front of batch normalisation
            assert gradient.abs().max() < 1e-12
        else:
            expected = arrays[f"{k}grad_weights/{theirs}"].view_as(gradient)
            check(f"gradient of {own}", gradient, expected, GRADIENTS)
    for own in RUNNING:
        check(own, state[own], arrays[f"{k}train/{own.rpartition('.')[2]}_after"], SCORES)


def test_a_file_older_than_the_mean_still_sums() -> None:
    recipe = small_model("can").recipe()
    old = CAN.from_recipe({name: value for name, value in recipe.items() if name not in CAN.options_before})
    assert (old.fuse, old.fusion_norm, old.transductive) == ("sum", False, None)


def test_sure_queries_join_the_support() -> None:
    torch.manual_seed(2)
    support, query = torch.randn(1, 2, 1, 4, 2, 2).double(), torch.randn(1, 5, 4, 2, 2).double()
    plain = CAN(Features(4), cells=4, reduction=2).double().eval()
    joined = CAN(Features(4), cells=4, reduction=2, transductive=[2]).double().eval()
    joined.load_state_dict(plain.state_dict())
    with torch.no_grad():
        scores = plain.score(support, query)[0]
        sure = scores.amax(1).argsort(descending=True)[:2]
        mean = support[0, :, 0].clone()
        for n in range(2):
            own = [query[0, i] for i in sure if scores[i].argmax() == n]
            mean[n] = torch.stack([support[0, n, 0], *own]).mean(0)
        torch.testing.assert_close(joined.score(support, query), plain.score(mean[None, :, None], query))


def maps() -> tuple[Tensor, Tensor]:
    return random_maps(*SHAPE.values())


def naive_attention(model: CAN, own: Tensor, other: Tensor) -> list[float]:
    """A of the cells of `own` [c, m] towards `other` [c, m], Eq. 1-3."""
    m = own.shape[1]
    r = [[float(F.cosine_similarity(own[:, i], other[:, j], dim=0)) for j in range(m)] for i in range(m)]
    pooled = torch.tensor([sum(r[i][j] for i in range(m)) / m for j in range(m)], dtype=torch.float64)
    first, _, second = model.fusion
    kernel = second.weight @ torch.relu(first.weight @ pooled + first.bias) + second.bias
    raised = [math.exp(sum(float(kernel[j]) * r[i][j] for j in range(m)) / model.temperature) for i in range(m)]
    return [value / sum(raised) for value in raised]


def test_scores_and_dense_scores_are_those_of_the_formulas(model: CAN) -> None:
    support, query = maps()
    with torch.no_grad():
        x_supp = support.mean(2)
        of_p = model.attention(x_supp, query)[0]
        scores, dense = model.score(support, query), model.score_maps(x_supp, query, of_p)
        for e in range(SHAPE["e"]):
            for i in range(SHAPE["q"]):
                for n in range(SHAPE["n"]):
                    p, q = x_supp[e, n].flatten(1), query[e, i].flatten(1)
                    a_p, a_q = naive_attention(model, p, q), naive_attention(model, q, p)
                    torch.testing.assert_close(
                        of_p[e, i, n].flatten(), torch.tensor(a_p, dtype=torch.float64), atol=1e-9, rtol=0
                    )
                    p_bar = torch.stack([p[:, j] * (1 + a_p[j]) for j in range(6)], 1)
                    q_bar = torch.stack([q[:, j] * (1 + a_q[j]) for j in range(6)], 1)
                    weight = p_bar.mean(1)
                    expected = 7 * F.cosine_similarity(q_bar.mean(1), weight, dim=0)
                    torch.testing.assert_close(scores[e, i, n], expected, atol=1e-9, rtol=0)
                    by_cell = 7 * F.cosine_similarity(q_bar, weight[:, None], dim=0)
                    torch.testing.assert_close(dense[e, i, n].flatten(), by_cell, atol=1e-9, rtol=0)


def test_loss_is_half_the_dense_cross_entropy_and_the_global_one(model: CAN) -> None:
    support, query = maps()
    labels, base = torch.tensor([[0, 1, 2, 0]] * 2), torch.tensor([[3, 4, 5, 3]] * 2)
    with torch.no_grad():
        losses = model.loss(support, query, labels, base)
        x_supp = support.mean(2)
        of_p, of_q = model.attention(x_supp, query)
        dense = model.score_maps(x_supp, query, of_p)
        few, glob = [], []
        for e in range(2):
            for i in range(4):
                own = query[e, i] * (1 + of_q[e, i, labels[e, i]])
                logits = model.global_classifier(own[None])[0]
                for y in range(2):
                    for x in range(3):
                        few.append(F.cross_entropy(dense[e, i, :, y, x], labels[e, i]))
                        glob.append(F.cross_entropy(logits[:, y, x], base[e, i]))
    torch.testing.assert_close(losses.few_shot, torch.stack(few).mean())
    torch.testing.assert_close(losses.auxiliary, torch.stack(glob).mean())
    torch.testing.assert_close(losses.total, 0.5 * losses.few_shot + losses.auxiliary)
    torch.testing.assert_close(losses.scores, model.score(support, query))


def test_neither_order_nor_company_matters(model: CAN) -> None:
    support, query = maps()
    with torch.no_grad():
        scores = model.score(support, query)
        torch.testing.assert_close(model.score(support, query.flip(1)).flip(1), scores)
        torch.testing.assert_close(model.score(support[1:], query[1:]), scores[1:])
        torch.testing.assert_close(model.score(support.flip(1), query).flip(2), scores)


def test_missing_shots_do_not_count(model: CAN) -> None:
    support, query = maps()
    mask = torch.ones(support.shape[:3], dtype=torch.bool)
    mask[:, 0, 1] = False
    with torch.no_grad():
        scores = model.score(support, query, mask)
        torch.testing.assert_close(scores[..., 0], model.score(support[:, :, :1], query)[..., 0])
        torch.testing.assert_close(scores[..., 1:], model.score(support, query)[..., 1:])


def test_another_map_is_refused_with_both_sizes(model: CAN) -> None:
    support, query = maps()
    with pytest.raises(ValueError, match="maps of 6 cells, and was given 2 x 2"):
        model.score(support[..., :2], query[..., :2])


def test_it_comes_back_from_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = CAN("resnet12", classes=7, backbone_options={"width": 0.05}, cells=9, scale=5.0).eval()
    model.preprocessing = Preprocessing(24, "none")
    save_model(model, tmp_path / "can.safetensors")
    back = load_model(tmp_path / "can.safetensors")
    images = torch.randn(1, 2, 1, 3, 24, 24), torch.randn(1, 3, 3, 24, 24)
    with torch.no_grad():
        assert torch.equal(back(*images), model(*images))
    assert (type(back), back.scale) == (CAN, 5.0)
