"""MetaOptNet against its authors' numbers, its solvers against a general one and against finite differences."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from labkit.methods.metaoptnet import MetaOptNet, dual_of_ridge, dual_of_svm
from tests.helpers.features import Features
from tests.helpers.rival_episodes import check_episode
from tests.helpers.rival_golden import golden

N = 3


def problem(shots: int, channels: int = 12, seed: int = 0, strength: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    s = strength * torch.randn(2, N * shots, channels).double()
    targets = F.one_hot(torch.arange(N).repeat_interleave(shots), N).double().expand(2, -1, -1)
    return s, targets, torch.ones(2, N * shots).double()


def objective(a: Tensor, kernel: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * torch.einsum("in,ij,jn->", a, kernel, a) - (a * targets).sum()


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("head", ["svm", "ridge", "r2d2"])
def test_it_is_the_released_code(head: str, shots: int) -> None:
    arrays = golden("metaoptnet")
    model = MetaOptNet(Features(16), head=head).double()
    model.gamma.data.copy_(arrays[f"k{shots}/{head}/weights/scale"][0])
    # The gradient of the released solver, which approaches the optimum, is known to 1e-4.
    check_episode(model, arrays, shots, f"{head}/", tolerance=10 if head == "svm" else 1)


@pytest.mark.parametrize("shots", [1, 2, 5])
@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_the_machine_is_the_solution_of_a_general_solver(shots: int, strength: float) -> None:
    s, targets, present = problem(shots, strength=strength)
    kernel = s @ s.transpose(1, 2)
    found = dual_of_svm(kernel, targets, present, 0.1)
    for e in range(2):
        k, y = kernel[e].numpy(), targets[e].numpy()

        def value(a: np.ndarray, k: np.ndarray = k, y: np.ndarray = y) -> float:
            b = a.reshape(y.shape)
            return float(0.5 * np.einsum("in,ij,jn->", b, k, b) - (b * y).sum())

        def slope(a: np.ndarray, k: np.ndarray = k, y: np.ndarray = y) -> np.ndarray:
            return np.asarray(k @ a.reshape(y.shape) - y).ravel()

        adding_up = {
            "type": "eq",
            "fun": lambda a: a.reshape(-1, N).sum(1),
            "jac": lambda a: np.kron(np.eye(len(a) // N), np.ones(N)),
        }
        general = minimize(
            value,
            np.zeros(y.size),
            jac=slope,
            bounds=[(None, 0.1 * v) for v in y.ravel()],
            constraints=adding_up,
            method="SLSQP",
            options={"maxiter": 2000, "ftol": 1e-14},
        )
        assert general.success
        assert objective(found[e], kernel[e], targets[e]).item() == pytest.approx(general.fun, abs=1e-9)
        np.testing.assert_allclose(found[e].numpy().ravel(), general.x, atol=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize("solve", [dual_of_svm, dual_of_ridge])
def test_gradients_are_those_of_finite_differences(solve) -> None:  # type: ignore[no-untyped-def]
    s, targets, present = (x[:1] for x in problem(2, channels=6))
    s.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: solve(x @ x.transpose(1, 2), targets, present, 0.1), (s,), atol=1e-6)


@pytest.mark.parametrize("head", ["svm", "ridge"])
def test_pictures_that_are_not_there_change_nothing(head: str) -> None:
    torch.manual_seed(0)
    model = MetaOptNet(Features(8), head=head).double()  # type: ignore[arg-type]
    support, query = torch.randn(1, N, 3, 8, 2, 2).double(), torch.randn(1, 4, 8, 2, 2).double()
    mask = torch.tensor([[[True, True, False]] * N])
    with torch.no_grad():
        torch.testing.assert_close(model.score(support, query, mask), model.score(support[:, :, :2], query))


def test_ridge_is_the_primal_solution() -> None:
    torch.manual_seed(0)
    model = MetaOptNet(Features(8), head="r2d2", regularisation=2.0).double()
    support, query = torch.randn(1, N, 3, 8, 2, 3).double(), torch.randn(1, 4, 8, 2, 3).double()
    s, q = support[0].reshape(-1, 48).numpy(), query[0].reshape(-1, 48).numpy()
    y = np.kron(np.eye(N), np.ones((3, 1)))
    weights = np.linalg.inv(s.T @ s + 2 * np.eye(48)) @ s.T @ y
    with torch.no_grad():
        np.testing.assert_allclose(model.score(support, query)[0].numpy(), q @ weights, atol=1e-9)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="head must be"):
        MetaOptNet(Features(8), head="lda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="regularisation must be a finite number above 0"):
        MetaOptNet(Features(8), regularisation=0.0)


@pytest.mark.parametrize("n", range(2, 12))
def test_the_true_class_keeps_at_least_as_much_of_a_label_as_a_false_one(n: int) -> None:
    torch.manual_seed(n)
    episode = torch.randn(1, n, 1, 8, 2, 2), torch.randn(1, n, 8, 2, 2), torch.arange(n)[None], torch.arange(n)[None]
    most = (n - 1) / n
    found = MetaOptNet(Features(8), label_smoothing=most).train().loss(*episode)
    evenly = -found.scores.log_softmax(-1).mean()
    torch.testing.assert_close(found.few_shot, evenly)
    with pytest.raises(ValueError, match=rf"at most \(N - 1\) / N = {most:.3g} in episodes of N = {n} classes, got 1"):
        MetaOptNet(Features(8), label_smoothing=1.0).train().loss(*episode)


def test_a_file_older_than_the_second_regression_scores_as_it_did() -> None:
    old = {"backbone": "conv4", "classes": 64, "backbone_options": {}, "head": "ridge", "regularisation": None}
    model = MetaOptNet.from_recipe(old | {"scale": 1.0})
    assert (model.head, model.kernel_diagonal, model.label_smoothing) == ("r2d2", 0.0, 0.0)
    assert MetaOptNet.from_recipe(MetaOptNet("conv4", head="ridge").recipe()).head == "ridge"
