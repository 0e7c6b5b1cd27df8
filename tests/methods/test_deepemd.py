"""DeepEMD: its authors' numbers, its transport against a linear program, its terms and gradients."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from labkit.methods.deepemd import FLOOR, DeepEMD, plans
from tests.helpers.features import Features
from tests.helpers.rival_episodes import episode
from tests.helpers.rival_golden import check, golden

NEAR, SOLVERS = 1e-4, 1e-3  # theirs is in single precision, and its flow is a solver's

C, N, Q, H, W = 6, 3, 4, 2, 3


def maps(shots: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(1, N, shots, C, H, W).double(), torch.randn(1, Q, C, H, W).double()


def by_linear_program(cost: np.ndarray, supply: np.ndarray, demand: np.ndarray) -> float:
    m, n = cost.shape
    rows, columns = np.kron(np.eye(m), np.ones(n)), np.kron(np.ones(m), np.eye(n))
    solved = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([supply, demand]))
    assert solved.success
    return float(solved.fun)


@pytest.mark.parametrize("shape", [(25, 25), (4, 9)])
def test_the_transport_is_the_solution_of_a_linear_program(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for case in range(5):
        cost = rng.normal(size=shape)
        supply, demand = (rng.random(n) ** 3 for n in shape)
        if case == 0:
            supply[1:] = demand[:-1] = 0  # one source, one sink
        supply, demand = supply / supply.sum(), demand / demand.sum()
        flow, of_supply, of_demand = plans(*(torch.from_numpy(x) for x in (cost, supply, demand)))
        least = by_linear_program(cost, supply, demand)
        assert float((flow.numpy() * cost).sum()) == pytest.approx(least, abs=1e-9)
        np.testing.assert_allclose(flow.sum(1), supply, atol=1e-12)
        np.testing.assert_allclose(flow.sum(0), demand, atol=1e-12)
        assert float(of_supply @ torch.from_numpy(supply) + of_demand @ torch.from_numpy(demand)) == pytest.approx(
            least, abs=1e-9
        )  # strong duality: prices prove that nothing is cheaper


def test_the_score_is_its_equations() -> None:
    support, query = maps()
    scores = DeepEMD(Features(C), temperature=3.0, gradient="program").double().eval().score(support, query)
    for q, n in np.ndindex(Q, N):
        u, v = query[0, q].flatten(1).numpy().T, support[0, n, 0].flatten(1).numpy().T  # cells x channels
        supply = np.array([max(a @ v.mean(0), 0) + FLOOR for a in u])
        demand = np.array([max(b @ u.mean(0), 0) + FLOOR for b in v])
        cost = np.array([[1 - np.corrcoef(a, b)[0, 1] for b in v] for a in u])  # cosine of what is centred
        least = by_linear_program(cost, supply / supply.sum(), demand / demand.sum())
        assert scores[0, q, n].item() == pytest.approx(3 * (1 - least), abs=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    model = DeepEMD(Features(C), gradient="program").double()
    support, query = (x[:, :2].clone().requires_grad_() for x in maps())
    assert torch.autograd.gradcheck(model.score, (support, query), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "form", "gradient"),
    [("k1", "opencv", "costs"), ("small_k1", "qpth", "program"), ("small_k1", "opencv", "costs")],
)
def test_it_is_the_released_code(file: str, form: str, gradient: str) -> None:
    arrays = golden("deepemd")
    arrays = {key.replace(f"{file}/", "k0/", 1): a for key, a in arrays.items() if key.startswith(f"{file}/")}
    support, query, labels = episode(arrays, 0)
    model = DeepEMD(Features(16), gradient=gradient).double().train()
    losses = model.loss(support, query, labels, labels)
    losses.total.backward()
    check("scores", losses.scores[0], arrays[f"k0/{form}/scores"], NEAR)
    for name, features in (("query", query), ("support", support)):
        if f"k0/{form}/grad_{name}" in arrays:
            check(f"gradient of {name}", features.grad[0], arrays[f"k0/{form}/grad_{name}"], SOLVERS)
            check("loss", losses.total, arrays[f"k0/{form}/loss"], NEAR)


@pytest.mark.parametrize("epochs", [1, 10])
def test_structured_prototypes_are_the_released_code(epochs: int) -> None:
    arrays = golden("deepemd")
    support, query, _ = episode(arrays, 5)
    model = DeepEMD(Features(16)).train().double()
    order = arrays["k5/sfc_permutations"].long()[:epochs]
    learned = model.structured_prototypes(support, order=order)
    check("prototypes", learned[0], arrays[f"k5/sfc_after_{epochs}"], SOLVERS)
    with torch.no_grad():
        check("scores", model.similarity(learned, query)[0], arrays[f"k5/scores_after_{epochs}"], SOLVERS)
        check("of means", model.similarity(support.mean(2), query)[0], arrays["k5/scores_of_mean_maps"], NEAR)


def test_in_training_several_shots_are_learned_from_and_only_queries_reach_the_backbone() -> None:
    support, query = (x.requires_grad_() for x in maps(shots=2))
    model = DeepEMD(Features(C), sfc_epochs=2).double().train()
    labels = torch.arange(Q)[None] % N
    losses = model.loss(support, query, labels, labels)
    losses.total.backward()
    assert support.grad.abs().sum() == 0
    assert query.grad.abs().sum() > 0
    torch.testing.assert_close(losses.scores, model.similarity(model.structured_prototypes(support), query))


def test_structured_prototypes_tell_the_support_apart_better_than_the_mean() -> None:
    support, query = maps(shots=3)
    options = {"sfc_batch": None, "sfc_test_rate": 0.5, "sfc_dampening": 0.0}
    model = DeepEMD(Features(C), gradient="program", sfc_epochs=20, **options).double().eval()
    labels = torch.arange(N).repeat_interleave(3)
    pictures = support.flatten(1, 2)
    with torch.inference_mode():
        learned = model.similarity(model.structured_prototypes(support), pictures)[0]
        mean = model.similarity(support.mean(2), pictures)[0]
        loss, before = (torch.nn.functional.cross_entropy(x, labels) for x in (learned, mean))
        assert loss < 0.7 * before
        # None taken, they are the mean, which is what training takes if asked to.
        model.sfc_epochs, model.sfc_in_training = 0, False
        assert torch.equal(model.score(support, query), model.train().score(support, query))
