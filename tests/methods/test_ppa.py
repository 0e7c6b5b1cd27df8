"""PPA against its formulas written naively, number by number."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from labkit.methods.noise import set_keys
from labkit.methods.ppa import PPA
from tests.helpers.features import Features, random_maps

E, N, K, Q, C = 2, 3, 2, 3, 4
LABELS, BASE = torch.tensor([[0, 1, 2], [2, 0, 1]]), torch.tensor([[5, 0, 3], [1, 6, 5]])


def maps() -> tuple[Tensor, Tensor]:
    return random_maps(E, N, K, Q, C)


def made(**options: float) -> PPA:
    torch.manual_seed(0)
    model = PPA(Features(C), classes=7, **options).double()
    for parameter in model.phi.parameters():
        torch.nn.init.normal_(parameter)
    return model


def naive_weights(model: PPA, activation: Tensor) -> Tensor:
    first, _, second = (layer.state_dict() for layer in model.phi)
    unit = activation / activation.norm()
    hidden = [max(0.0, float(first["weight"][i] @ unit + first["bias"][i])) for i in range(C)]
    out = second["weight"] @ torch.tensor(hidden).double() + second["bias"]
    return out / out.square().sum().sqrt()


def test_scores_are_dot_products_with_predicted_weights() -> None:
    model, (support, query) = made().eval(), maps()
    with torch.no_grad():
        scores = model.score(support, query)
        for e in range(E):
            for n in range(N):
                weights = naive_weights(model, support[e, n].mean((0, -2, -1)))
                for q in range(Q):
                    expected = sum(weights[c] * query[e, q, c].mean() for c in range(C))
                    torch.testing.assert_close(scores[e, q, n], expected)


def test_before_training_a_positive_activation_predicts_its_own_direction() -> None:
    a = torch.rand(5, C)
    torch.testing.assert_close(PPA(Features(C)).class_weights(a), F.normalize(a, dim=-1))


def test_in_training_a_class_is_a_picture_or_its_mean() -> None:
    model, (support, query) = made(single=0.5, pace=0.25).train(), maps()
    set_keys(model, [(0, 1), (0, 2)])
    kept: dict[int, Tensor] = {}
    drawn = model.draw.draw(support, N) < 0.5
    assert drawn.any()
    assert not drawn.all()
    for step in range(2):
        query = query + step
        losses = model.loss(support, query, LABELS, BASE)
        found: dict[int, list[Tensor]] = {}
        for e in range(E):
            for q in range(Q):
                found.setdefault(int(BASE[e, q]), []).append(query[e, q].mean((-2, -1)))
                found[int(BASE[e, q])].extend(support[e, LABELS[e, q]].mean((-2, -1)))
        for y, pictures in found.items():
            now = torch.stack(pictures).mean(0)
            kept[y] = now if step == 0 else 0.75 * kept[y] + 0.25 * now
        terms = []
        for e in range(E):
            base = {int(LABELS[e, q]): int(BASE[e, q]) for q in range(Q)}
            of = [support[e, n, 0].mean((-2, -1)) if drawn[e, n] else kept[base[n]] for n in range(N)]
            weights = [naive_weights(model, a) for a in of]
            for q in range(Q):
                logits = torch.stack([w @ query[e, q].mean((-2, -1)) for w in weights])
                terms.append(torch.logsumexp(logits, 0) - logits[LABELS[e, q]])
        torch.testing.assert_close(losses.total, torch.stack(terms).mean())
    assert model.seen.tolist() == [True, True, False, True, False, True, True]
    for y, mean in kept.items():
        torch.testing.assert_close(model.means[y], mean)


def test_its_backbone_can_be_trained_by_classification() -> None:
    model, (_, query) = made(global_weight=0.5).train(), maps()
    of_images = model.classification_loss(query[0], BASE[0])
    logits = model.global_classifier(query[0].mean((-2, -1)))
    torch.testing.assert_close(of_images.total, F.cross_entropy(logits, BASE[0]))
    losses = model.loss(*maps(), LABELS, BASE)
    torch.testing.assert_close(losses.total, losses.few_shot + 0.5 * losses.auxiliary)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="pace must be a finite number above 0"):
        PPA(Features(C), pace=0.0)


@pytest.mark.integration
def test_its_loss_is_one_graph() -> None:
    one, other = made().train(), made().train()
    for model in (one, other):
        set_keys(model, [(0, 1), (0, 2)])
    compiled = torch.compile(one.loss, fullgraph=True, backend="eager")
    for _ in range(2):
        torch.testing.assert_close(compiled(*maps(), LABELS, BASE).total, other.loss(*maps(), LABELS, BASE).total)
