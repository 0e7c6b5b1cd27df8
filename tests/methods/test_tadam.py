"""TADAM against the numbers of its authors' code, and its conditioned backbone against a plain one."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.tadam import TADAM, Film
from tests.helpers.features import Features
from tests.helpers.rival_golden import GRADIENTS, SCORES, check, golden

GOLDEN = golden("tadam")
RAW = "weights/film_params_raw/"


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("metric", ["polynomial", "cosine", "prototypical"])
def test_the_metrics_are_the_authors(metric: str, shots: int) -> None:
    model, at = TADAM(Features(16), conditioned=False, metric=metric).double(), f"k{shots}/"
    support, query = (GOLDEN[at + x][None].requires_grad_() for x in ("support", "query"))
    labels = GOLDEN[at + "query_labels"][None]
    losses = model.loss(support, query, labels, labels)
    losses.total.backward()
    check("scores", losses.scores[0], GOLDEN[f"{at}{metric}/scores"], SCORES)
    check("loss", losses.total, GOLDEN[f"{at}{metric}/loss"], SCORES)
    for x, name in ((support, "support"), (query, "query")):
        assert x.grad is not None
        check(f"gradient of the {name}", x.grad[0], GOLDEN[f"{at}{metric}/grad_{name}"], GRADIENTS)


def film(block: int, convolution: int) -> Film:
    """The authors' networks of one layer."""
    width = GOLDEN[f"{RAW}projection_beta{block}{convolution}0/biases"].numel()
    made = Film(16, width, 0.0).double()
    with torch.no_grad():
        for kind, weight, network in (
            ("gamma", made.gamma_weight, made.to_gamma),
            ("beta", made.beta_weight, made.to_beta),
        ):
            weight.copy_(GOLDEN[f"{RAW}{kind}_weight{block}{convolution}"])
            for i, layer in enumerate(network.layers):
                at = f"{RAW}projection_{kind}{block}{convolution}{i}/"
                layer.weight.copy_(GOLDEN[at + "weights"].T)
                layer.bias.copy_(GOLDEN[at + "biases"])
    return made


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize(("block", "convolution"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_conditioning_is_the_authors(block: int, convolution: int, shots: int) -> None:
    task = TADAM(Features(16), conditioned=False).task(GOLDEN[f"k{shots}/support"][None])
    with torch.no_grad():
        gamma, beta = film(block, convolution)(task)
    check("gamma", gamma, GOLDEN[f"k{shots}/film/gamma_{block}_{convolution}"], SCORES)
    check("beta", beta, GOLDEN[f"k{shots}/film/beta_{block}_{convolution}"], SCORES)


@pytest.mark.parametrize("shots", [1, 5])
def test_a_conditioned_layer_is_the_authors(shots: int) -> None:
    layer, first, at = nn.Identity(), film(0, 0), f"k{shots}/film/"
    layer.register_forward_hook(first.condition)
    first.prepare(TADAM(Features(16), conditioned=False).task(GOLDEN[f"k{shots}/support"][None]))
    with torch.no_grad():
        out = layer(GOLDEN[at + "layer_input_nhwc"].permute(0, 3, 1, 2))
    check("output", out.permute(0, 2, 3, 1), GOLDEN[at + "layer_output_nhwc"], SCORES)


def conditioned(**options: object) -> TADAM:
    torch.manual_seed(0)
    return TADAM("resnet12", classes=7, backbone_options={"width": 0.05}, **options).double().eval()


def images() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    support, query = torch.randn(2, 3, 2, 3, 16, 16).double(), torch.randn(2, 3, 3, 16, 16).double()
    return support, query, torch.tensor([[0, 1, 2]] * 2)


def test_the_backbone_of_a_resnet12_is_conditioned_after_every_convolution() -> None:
    model = conditioned(start=0.5)
    assert len(model.films) == 12  # three in each of four blocks, none in their shortcuts
    support, query, _ = images()
    with torch.no_grad():
        scores = model.score(support, query)
        for e in range(2):
            plain = model.features(support[e].flatten(0, 1))
            task = plain.view(3, 2, *plain.shape[1:]).mean((1, -2, -1)).mean(0)
            x = torch.cat([support[e].flatten(0, 1), query[e]])
            films = iter(model.films)

            def norm(bn: nn.Module, h: Tensor, films=films, task=task) -> Tensor:
                gamma, beta = next(films)(task)
                mean, var = bn.running_mean[:, None, None], bn.running_var[:, None, None]
                h = (h - mean) / (var + bn.eps).sqrt() * bn.weight[:, None, None] + bn.bias[:, None, None]
                return (1 + gamma)[:, None, None] * h + beta[:, None, None]

            for block in (getattr(model.backbone, f"layer{i}") for i in range(1, 5)):
                y = F.leaky_relu(norm(block.bn1, block.conv1(x)), 0.1)
                y = F.leaky_relu(norm(block.bn2, block.conv2(y)), 0.1)
                y = norm(block.bn3, block.conv3(y)) + block.downsample(x)
                x = block.pool(F.leaky_relu(y, 0.1))
            pooled = x.mean((-2, -1))
            prototypes = pooled[:6].view(3, 2, -1).mean(1)
            torch.testing.assert_close(scores[e], -7.5 * torch.cdist(pooled[6:], prototypes))


def test_from_its_start_it_is_unconditioned_and_learns_not_to_be() -> None:
    model = conditioned()
    support, query, labels = images()
    with torch.no_grad():
        plain = [model.features(x.flatten(1, -4)).unflatten(1, x.shape[1:-3]) for x in (support, query)]
        torch.testing.assert_close(model.score(support, query), model.compare(*plain))
    model.loss(support, query, labels, labels).total.backward()
    gradients = [p.grad for film in model.films for p in (film.gamma_weight, film.beta_weight)]
    assert all(g is not None and g != 0 for g in gradients)


def test_a_copy_is_conditioned_by_its_own_networks() -> None:
    model = conditioned(start=0.5)
    support, query, labels = images()
    model.loss(support, query, labels, labels).total.backward()
    other = copy.deepcopy(model)
    with torch.no_grad():
        before = model.score(support, query)
        for film in other.films:
            film.beta_weight.fill_(3.0)
        assert not torch.allclose(other.score(support, query), before)
        assert torch.equal(model.score(support, query), before)


def test_classification_is_of_the_backbone_as_it_is() -> None:
    model = conditioned(start=0.5, global_weight=0.5)
    support, query, labels = images()
    with torch.no_grad():
        model.score(support, query)  # leaves nothing of its task behind
        of_images = model.classification_loss(query[0], labels[0])
        logits = model.global_classifier(model.features(query[0]).mean((-2, -1)))
        torch.testing.assert_close(of_images.total, F.cross_entropy(logits, labels[0]))
        losses = model.loss(support, query, labels, labels + 3)
        torch.testing.assert_close(losses.total, losses.few_shot + 0.5 * losses.auxiliary)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no batch normalisation to condition"):
        TADAM(Features(16))
    with pytest.raises(ValueError, match="metric must be one of"):
        TADAM(Features(16), metric="euclidean")
