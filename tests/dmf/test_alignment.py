"""Integrators against problems whose answers are known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.dmf.alignment import gain, integrate, parse_rule

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


def test_rk4_is_the_three_eighths_rule_and_where_f_is_not_linear_not_the_classical_one() -> None:
    def field(x: torch.Tensor) -> torch.Tensor:
        return (x.roll(1) - 0.5 * x).relu()

    x = torch.linspace(-1, 2, 7, dtype=torch.float64)
    found, _ = integrate(field, x, parse_rule("rk4"))
    a = field(x)
    b = field(x + a / 3)
    c = field(x + b - a / 3)
    torch.testing.assert_close(found, x + (a + 3 * b + 3 * c + field(x + a - b + c)) / 8, atol=1e-12, rtol=0)
    b = field(x + a / 2)
    c = field(x + b / 2)
    classical = x + (a + 2 * b + 2 * c + field(x + c)) / 6
    assert (found - classical).abs().max() > 1e-3


def test_rk4_s_polynomial_is_torchdiffeq_s_step_and_so_is_its_gradient() -> None:
    f = torch.linspace(0, 1, 41).view(1, -1).requires_grad_()
    rule = parse_rule("rk4")
    polynomial, nfe = gain(f, rule)
    stepped, evaluations = integrate(lambda g: f * g, torch.ones_like(f), rule)
    torch.testing.assert_close(polynomial, stepped, atol=1e-6, rtol=0)
    assert nfe == [evaluations] == [4]
    slopes = [torch.autograd.grad(g.sum(), f)[0] for g in (polynomial, stepped)]
    torch.testing.assert_close(*slopes, atol=1e-6, rtol=0)


@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    steps=st.integers(1, 6),
    tolerance=st.sampled_from([1e-3, 1e-5, 1e-8]),
)
def test_every_rule_lies_between_one_step_and_the_exponential(
    values: list[float], steps: int, tolerance: float
) -> None:
    """And grows with the filter, whatever the others in the map are; Euler from below, more steps closer."""
    f = torch.tensor([sorted(values)], dtype=torch.float64)
    exact = f.exp()
    rules = (f"euler({steps})", f"euler({2 * steps})", f"recurrent({steps})", "rk4")
    euler, finer, recurrent, rk4 = (gain(f, parse_rule(rule))[0] for rule in rules)
    torch.testing.assert_close(euler, (1 + f / steps) ** steps)
    torch.testing.assert_close(recurrent, (1 + f) ** steps)
    assert (1 + f <= euler + 1e-12).all()
    assert (euler <= finer + 1e-12).all()
    assert (finer <= exact + 1e-12).all()
    assert (rk4 <= exact + 1e-12).all()
    assert (exact - rk4 <= f**5 / 30).all()  # Lagrange's remainder, f^5 e / 5!
    dopri5, nfe = gain(f, parse_rule("dopri5", tolerance, tolerance))
    assert (dopri5 - exact).abs().max() < 30 * tolerance
    assert nfe[0] >= 14
    for found in (euler, recurrent, rk4, dopri5):
        assert (found.diff() >= -tolerance).all()


@given(
    size=st.integers(1, 4), steps=st.integers(1, 5), scale=st.sampled_from([0.1, 1.0, 3.0]), seed=st.integers(0, 2**31)
)
def test_on_a_field_that_mixes_every_fixed_rule_is_its_matrix_polynomial(
    size: int, steps: int, scale: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    a = scale * torch.randn(size, size, dtype=torch.float64, generator=random)
    x = torch.randn(size, dtype=torch.float64, generator=random)
    one = torch.eye(size, dtype=torch.float64)
    power = torch.linalg.matrix_power
    taylor = one + a + power(a, 2) / 2 + power(a, 3) / 6 + power(a, 4) / 24
    for rule, matrix, evaluations in (
        ("none", one, 0),
        (f"recurrent({steps})", power(one + a, steps), steps),
        (f"euler({steps})", power(one + a / steps, steps), steps),
        ("rk4", taylor, 4),
    ):
        found, nfe = integrate(lambda v: a @ v, x, parse_rule(rule))
        torch.testing.assert_close(found, matrix @ x, rtol=1e-9, atol=1e-9)
        assert nfe == evaluations


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
