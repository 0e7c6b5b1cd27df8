"""How far the filter is followed: the instantiations of section 5.3, one integrator for all of them.

A `field` maps a state X to F(X), the dynamic convolution of Eq. 7. It may be the whole query map, or, at kernel size
1, the gain by which the map is multiplied, since there F(X) = f X acts on every channel and position by itself.

==============  =======================================================================================
`"none"`        X stays as it is (Table 2d, 0 alignments)
`"recurrent(T)"`  T unit steps X <- X + F(X), Eq. 7-8; T = 1, 2, 3 are the rows of Table 2d
`"euler(T)"`    T Euler steps of size 1/T on dX/dt = F(X), Eq. 9, t from 0 to 1
`"rk4"`         one step of size 1 by Kutta's 3/8 rule, torchdiffeq's `rk4`: what the released code runs
`"dopri5"`      Dormand-Prince with adaptive steps (torchdiffeq): what the paper describes
`"closed"`      the exact solution X exp(f) at kernel size 1
==============  =======================================================================================

The 3/8 rule and the classical rule of fourth order are the same where F is linear. With a ReLU at kernel sizes above 1
it is not, and they differ.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchdiffeq import odeint

from labkit.common import checks

Field = Callable[[Tensor], Tensor]

STEPPED = ("recurrent", "euler")
MOST_ATTEMPTS = 2000  # steps of dopri5, refused ones included; at the usual tolerances it takes two to ten
MOST_STEPS = 1000  # more would take hours and mean the same
PLAIN = ("none", "rk4", "dopri5", "closed")


@dataclass(frozen=True)
class Rule:
    """A parsed alignment: its name, its steps where it has them, and dopri5's tolerances."""

    name: str
    steps: int = 1
    rtol: float = 1e-5
    atol: float = 1e-5

    def __str__(self) -> str:
        return f"{self.name}({self.steps})" if self.name in STEPPED else self.name


def parse_rule(text: str, rtol: float = 1e-5, atol: float = 1e-5) -> Rule:
    """Read an alignment's name, for example ``"recurrent(2)"``.

    Raises:
        ValueError: unknown name, steps below 1 or above `MOST_STEPS`, or a tolerance that is not positive and finite.
        TypeError: not a name, or a tolerance that is no number.
    """
    checks.kind("alignment", text, str, "a name such as 'rk4' or 'euler(2)'")
    match = re.fullmatch(r"(\w+)(?:\((\d+)\))?", text.strip())
    name, steps = match.groups() if match else ("", None)
    right = name in STEPPED + PLAIN and (name in STEPPED) == (steps is not None)
    if not (right and 1 <= int(steps or 1) <= MOST_STEPS):
        known = [f"{n}(T)" for n in STEPPED] + list(PLAIN)
        raise ValueError(f"alignment {text!r} is not one of {', '.join(known)}, with T from 1 to {MOST_STEPS}")
    rtol, atol = checks.finite("dopri5's rtol", rtol, above=0), checks.finite("dopri5's atol", atol, above=0)
    return Rule(name, int(steps or 1), rtol, atol)


def integrate(field: Field, start: Tensor, rule: Rule) -> tuple[Tensor, int]:
    """Follow `field` from `start` as `rule` says, t from 0 to 1.

    Adaptive steps are chosen for the whole tensor at once, so give dopri5 one episode at a time: the result of one
    must not depend on another.

    Returns:
        the state at the end, of `start`'s shape, and the number of evaluations of `field` (NFE).

    Raises:
        ValueError: the rule is ``"closed"``, which knows its own field; see `gain`.
    """
    evaluations = 0

    def dynamics(_: Tensor, x: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return field(x)

    clock = torch.tensor([0.0, 1.0], dtype=start.dtype, device=start.device)
    x = start
    if rule.name == "closed":
        raise ValueError("the closed form exists at kernel size 1 only; use dopri5 or rk4")
    if rule.name in STEPPED:
        step = 1.0 if rule.name == "recurrent" else 1.0 / rule.steps
        for _ in range(rule.steps):
            x = x + step * dynamics(clock[0], x)
    elif rule.name == "rk4":
        x = odeint(dynamics, start, clock, method="rk4", options={"step_size": 1.0})[-1]
    elif rule.name == "dopri5":
        x = _adaptive(dynamics, start, clock, rule)
    return x, evaluations


def _adaptive(dynamics: Callable[[Tensor, Tensor], Tensor], start: Tensor, clock: Tensor, rule: Rule) -> Tensor:
    """dopri5's solution, or NaN where it has none: F is not finite, or rounding exceeds the error that is allowed.

    NaN and no exception, so that whoever reads the scores can say which episodes they belong to: training names step,
    episodes, layers and the last checkpoint, and `labkit.evaluate` the episodes.
    """
    try:
        options = {"max_num_steps": MOST_ATTEMPTS}
        x: Tensor = odeint(dynamics, start, clock, method="dopri5", rtol=rule.rtol, atol=rule.atol, options=options)[-1]
    except AssertionError as error:  # torchdiffeq's: a step that became 0, too many steps, a state that is not finite
        if bool(dynamics(clock[0], start).isfinite().all()):
            warnings.warn(
                f"dopri5 cannot keep to rtol={rule.rtol:g}, atol={rule.atol:g} in {str(start.dtype)[6:]} ({error}), "
                "and its result is NaN: allow a larger error, or take the alignment 'rk4'",
                stacklevel=2,
            )
        x = dynamics(clock[0], start) * torch.nan
    return x


def gain(filters: Tensor, rule: Rule) -> tuple[Tensor, list[int]]:
    """The factor by which a query feature grows at kernel size 1, where dX/dt = f X is separable.

    Args:
        filters: f, [E, ...], one value for each group and position.

    Returns:
        the gain, of `filters`' shape, and the NFE of each episode.
    """
    if rule.name == "closed":
        return filters.exp(), [0] * len(filters)
    if rule.name == "rk4":
        # On dX/dt = f X with a constant f, every fourth-order method of four stages is this polynomial. In place of
        # torchdiffeq, which looks at its clock: so the released preset compiles as one graph.
        f = filters
        return 1 + f * (1 + f / 2 * (1 + f / 3 * (1 + f / 4))), [4] * len(f)
    if rule.name == "dopri5":
        solved = [integrate(lambda g, f=f: f * g, torch.ones_like(f), rule) for f in filters]  # type: ignore[misc]
        return torch.stack([g for g, _ in solved]), [nfe for _, nfe in solved]
    g, nfe = integrate(lambda g: filters * g, torch.ones_like(filters), rule)
    return g, [nfe] * len(filters)
