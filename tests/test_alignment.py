"""Integrators against problems whose answers are known."""

import pytest
import torch

from labkit.alignment import gain, integrate, parse_rule

F_VALUES = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)[None]


@pytest.mark.parametrize(
    ("rule", "expected", "tolerance"),
    [
        ("none", torch.ones_like(F_VALUES), 0),
        ("recurrent(1)", 1 + F_VALUES, 1e-12),
        ("recurrent(3)", (1 + F_VALUES) ** 3, 1e-12),
        ("euler(3)", (1 + F_VALUES / 3) ** 3, 1e-12),
        ("rk4", 1 + F_VALUES + F_VALUES**2 / 2 + F_VALUES**3 / 6 + F_VALUES**4 / 24, 1e-12),
        ("dopri5", F_VALUES.exp(), 5e-5),
        ("closed", F_VALUES.exp(), 0),
    ],
)
def test_gain_is_the_polynomial_or_the_exponential(rule: str, expected: torch.Tensor, tolerance: float) -> None:
    got, nfe = gain(F_VALUES, parse_rule(rule))
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)
    steps = {"none": 0, "closed": 0, "rk4": 4, "recurrent(1)": 1, "recurrent(3)": 3, "euler(3)": 3}
    assert nfe == [steps.get(rule, nfe[0])]


def test_dopri5_evaluates_twenty_times_at_1e_5_and_solves_each_episode_by_itself() -> None:
    filters = torch.rand(3, 50, generator=torch.Generator().manual_seed(0))
    filters[1] *= 10
    rule = parse_rule("dopri5")
    together, nfe = gain(filters, rule)
    for i in range(3):
        alone, evaluations = gain(filters[i : i + 1], rule)
        assert torch.equal(alone[0], together[i])
        assert evaluations == [nfe[i]]
    assert nfe[0] == nfe[2] == 20
    assert nfe[1] > 20


def test_a_linear_field_that_mixes_is_solved_to_its_matrix_exponential() -> None:
    matrix = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    start = torch.ones(5, dtype=torch.float64)
    solved, _ = integrate(lambda x: matrix @ x, start, parse_rule("dopri5", rtol=1e-9, atol=1e-9))
    torch.testing.assert_close(solved, torch.linalg.matrix_exp(matrix) @ start, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("text", ["", "ode", "euler", "euler(0)", "rk4(2)", "recurrent(-1)", "recurrent(1.5)"])
def test_unknown_rules_are_refused_and_the_known_ones_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"recurrent\(T\), euler\(T\), none, rk4"):
        parse_rule(text)


@pytest.mark.parametrize("tolerances", [{"rtol": 0.0}, {"atol": -1.0}, {"rtol": float("nan")}])
def test_tolerances_must_be_positive(tolerances: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be a finite number above 0, got"):
        parse_rule("dopri5", **tolerances)


def test_the_closed_form_refuses_a_field_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="kernel size 1"):
        integrate(lambda x: x, torch.ones(1), parse_rule("closed"))
