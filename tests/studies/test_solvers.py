"""The exact solutions that solvers are held to are exact, each by another way."""

import pytest
import torch

from labkit.dmf.alignment import integrate, parse_rule
from labkit.dmf.sampling import dynamic_convolution
from labkit.studies import solvers


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 6, 4, 3, dtype=torch.float64), torch.rand(2, 3, 9, 4, 3, dtype=torch.float64)


def test_the_operator_is_the_dynamic_convolution(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, filters = pair
    by_matrix = torch.einsum("pgij,pgdj->pgdi", solvers.operator(filters), x.view(2, 3, 2, 12)).reshape(x.shape)
    torch.testing.assert_close(by_matrix, dynamic_convolution(x, filters), atol=1e-12, rtol=0)


def test_the_matrix_exponential_and_dopri8_agree_where_both_hold(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    exact = solvers.exact_linear(*pair)
    assert solvers.relative_error(solvers.by_dopri8(*pair, False, 1e-10), exact) < 1e-5  # it interpolates at t = 1
    small, _ = integrate(lambda x: solvers.field(x, pair[1], False), pair[0], parse_rule("euler(1000)"))
    assert solvers.relative_error(small, exact) < 2e-2


def test_with_relu_dopri8_agrees_with_many_small_steps(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, filters = pair
    steps = parse_rule("euler(1000)")
    small, _ = integrate(lambda y: solvers.field(y, filters, True), x, steps)
    found = solvers.by_dopri8(x, filters, True)
    assert solvers.relative_error(small, found) < 2e-2
    assert solvers.relative_error(found, solvers.exact_linear(x, filters)) > 0.01  # the ReLU is there


def test_at_kernel_1_the_matrix_exponential_is_the_closed_form() -> None:
    torch.manual_seed(0)
    x, f = torch.randn(2, 6, 4, 3, dtype=torch.float64), torch.rand(2, 3, 1, 4, 3, dtype=torch.float64)
    grown = x.view(2, 3, 2, 4, 3) * f.exp()
    torch.testing.assert_close(solvers.exact_linear(x, f), grown.view(x.shape), atol=1e-10, rtol=0)


def test_summary_says_whether_the_number_of_evaluations_varies() -> None:
    rows = [
        {"task": i, "kind": kind, "rule": "dopri5, 0.01", "nfe": nfe, "error": 0.1 * i}
        for i, (kind, nfe) in enumerate((("easy", 14), ("easy", 14), ("hard", 14), ("hard", 20)))
    ]
    line = solvers.summarise(rows).loc["dopri5, 0.01"]
    assert (line["nfe, easy"], line["nfe, hard"]) == ("14", "14 to 20")
    assert line["error, max"] == pytest.approx(0.3)
