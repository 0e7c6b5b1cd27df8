"""SNAIL against the numbers of an unofficial port, and the paper's form against a naive statement of it."""

import math

import pytest
import torch
from torch.nn import functional as F

from labkit.methods.noise import set_keys
from labkit.methods.snail import SNAIL, Attention
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden, put_weights

GOLDEN = golden("snail_unofficial")
SIZES = {"keys": (8, 12, 16), "values": (4, 6, 8), "filters": 6}


def names(blocks: int) -> dict[str, str]:
    """The model's names of weights and the port's."""
    found = {f"layers.5.{x}": f"fc.{x}" for x in ("weight", "bias")}
    for x in ("weight", "bias"):
        for i in range(3):
            for own, theirs in (("to_query", "query"), ("to_key", "keys"), ("to_value", "values")):
                found[f"layers.{2 * i}.{own}.{x}"] = f"attention{i + 1}.linear_{theirs}.{x}"
        for i in range(2):
            for j in range(blocks):
                for own, theirs in (("filter", "casualconv1"), ("gate", "casualconv2")):
                    name = f"tc{i + 1}.dense_blocks.{j}.{theirs}.conv1d.{x}"
                    found[f"layers.{2 * i + 1}.{own}.{j}.{x}"] = name
    return found


def of_the_port(shot: int) -> SNAIL:
    model = SNAIL(Features(16), way=5, shot=shot, softmax="queries", **SIZES).double()
    put_weights(model, GOLDEN, f"k{shot}/weights/", names(math.ceil(math.log2(5 * shot + 1))))
    return model


@pytest.mark.parametrize("shot", [1, 5])
def test_it_is_the_port(shot: int) -> None:
    model, at = of_the_port(shot), f"k{shot}/"
    support = GOLDEN[at + "support"].requires_grad_()
    query, labels = GOLDEN[at + "query"].requires_grad_(), GOLDEN[at + "query_labels"]
    order = GOLDEN[at + "order_of_support"]
    pictures = support.flatten(0, 1)[order].expand(len(query), -1, -1)
    answers = model.answers(pictures, (order // shot).expand(len(query), -1), query)
    loss = F.cross_entropy(answers[:, -1], labels)
    loss.backward()
    check("answers of the first query", answers[0], GOLDEN[at + "all_positions_of_first_query"], SCORES)
    check("scores", answers[:, -1], GOLDEN[at + "scores"], SCORES)
    check("loss", loss, GOLDEN[at + "loss"], SCORES)
    for x, name in ((support, "support"), (query, "query")):
        assert x.grad is not None
        check(f"gradient of the {name}", x.grad, GOLDEN[f"{at}grad_{name}"], GRADIENTS)
        x.requires_grad_(False).grad = None


def test_an_episode_is_read_in_an_order_of_its_own() -> None:
    model, at = of_the_port(5).train(), "k5/"
    support, query = (GOLDEN[at + x].expand(2, *GOLDEN[at + x].shape)[..., None, None] for x in ("support", "query"))
    labels = GOLDEN[at + "query_labels"].expand(2, -1)
    set_keys(model, [(0, 1), (0, 2)])
    with torch.no_grad():
        losses = model.loss(support, query, labels, labels)
        set_keys(model, [(0, 2), (0, 1)])
        torch.testing.assert_close(model.score(support, query), losses.scores.flip(0))
        assert not torch.allclose(losses.scores[0], losses.scores[1])
        order = model.shuffle.draw(support, 25).argsort(-1)[1]
        pictures = GOLDEN["k5/support"].flatten(0, 1)[order].expand(10, -1, -1)
        by_hand = model.answers(pictures, (order // 5).expand(10, -1), GOLDEN["k5/query"])[:, -1]
        torch.testing.assert_close(losses.scores[0], by_hand)
    torch.testing.assert_close(losses.total, F.cross_entropy(losses.scores.flatten(0, 1), labels.flatten()))


def test_attention_of_the_paper_place_by_place() -> None:
    torch.manual_seed(0)
    layer = Attention(5, 4, 3, over_queries=False).double()
    x = torch.randn(2, 6, 5).double()
    with torch.no_grad():
        q, k, v = layer.to_query(x), layer.to_key(x), layer.to_value(x)
        out = layer(x)
        for b in range(2):
            for t in range(6):
                raised = [math.exp(float(q[b, t] @ k[b, s]) / 2) for s in range(t + 1)]
                read = sum(r / sum(raised) * v[b, s] for s, r in enumerate(raised))
                torch.testing.assert_close(out[b, t], torch.cat([x[b, t], read]))


def test_the_paper_s_form_never_looks_ahead() -> None:
    torch.manual_seed(0)
    model = SNAIL(Features(16), way=5, shot=1, **SIZES).double().eval()
    support, labels = torch.randn(1, 5, 16).double(), torch.arange(5)[None]
    with torch.no_grad():
        one, other = (model.answers(support, labels, torch.randn(1, 16).double()) for _ in range(2))
    assert torch.equal(one[:, :5], other[:, :5])
    assert not torch.allclose(one[:, 5], other[:, 5])


@pytest.mark.parametrize("shot", [1, 5])
def test_supports_are_read_once_for_all_queries(shot: int) -> None:
    torch.manual_seed(0)
    model = SNAIL(Features(16), way=5, shot=shot, **SIZES).double()
    support, query = torch.randn(2, 5 * shot, 16).double(), torch.randn(2, 7, 16).double()
    labels = torch.stack([torch.randperm(5 * shot) // shot for _ in range(2)])
    together = model.last_answers(support, labels, query)
    each = [model.answers(support, labels, query[:, i])[:, -1] for i in range(7)]
    torch.testing.assert_close(together, torch.stack(each, 1))
    gradients = [torch.autograd.grad(x.square().sum(), list(model.parameters())) for x in (together, torch.stack(each))]
    torch.testing.assert_close(*gradients)


def test_other_ways_and_shots_are_refused() -> None:
    model = SNAIL(Features(16), **SIZES)
    support, query = torch.zeros(1, 5, 2, 16, 1, 1), torch.zeros(1, 1, 16, 1, 1)
    with pytest.raises(ValueError, match="5 classes with 1 shots each, and was given 5 classes with 2"):
        model.score(support, query)
    of_two, mask = SNAIL(Features(16), **SIZES | {"shot": 2}), torch.tensor([True, False]).expand(1, 5, 2)
    with pytest.raises(ValueError, match="no shot can be missing"):
        of_two.score(support, query, mask)
    with pytest.raises(ValueError, match="softmax must be one of"):
        SNAIL(Features(16), softmax="rows")
