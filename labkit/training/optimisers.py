"""A phase's optimiser: torch's own, with a learning rate for each group of parameters."""

from typing import Any

import torch
from torch import nn

from labkit.training.phases import Phase


def factor_of(name: str, rates: dict[str, float]) -> float:
    """The factor of the learning rate of a parameter or a module, by the longest beginning of its name in `rates`."""
    fitting = [start for start in rates if name == start or name.startswith(f"{start}.")]
    return rates[max(fitting, key=len)] if fitting else 1.0


def parameter_groups(model: nn.Module, rates: dict[str, float]) -> list[dict[str, Any]]:
    """torch's groups, each with its ``factor``, without what is frozen.

    Raises:
        ValueError: a beginning that no parameter's name has, or everything is frozen.
    """
    named = dict(model.named_parameters())
    for start in rates:
        if not any(name == start or name.startswith(f"{start}.") for name in named):
            there = list(dict.fromkeys(name.partition(".")[0] for name in named))
            raise ValueError(f"rates names {start!r}, and no parameter's name begins so; there are {there}")
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        groups.setdefault(factor_of(name, rates), []).append(parameter)
    groups.pop(0.0, None)
    if not groups:
        raise ValueError("a phase needs parameters to train, and its rates freeze all of them")
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def set_modes(model: nn.Module, rates: dict[str, float]) -> None:
    """Set a model to training mode, but what `rates` freeze to evaluation mode and without gradients."""
    model.train()
    for name, module in model.named_modules():
        if name and factor_of(name, rates) == 0:
            module.eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(factor_of(name, rates) != 0)
        parameter.grad = None


def make_optimiser(model: nn.Module, phase: Phase, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser of a phase, on the parameters of `model`."""
    given: Any = parameter_groups(model, phase.rates) if phase.rates else model.parameters()
    fused = device.type == "cuda"
    common: dict[str, Any] = {"lr": phase.learning_rate, "weight_decay": phase.weight_decay, "fused": fused}
    if phase.optimiser == "sgd":
        nesterov = phase.nesterov and phase.momentum > 0
        return torch.optim.SGD(given, momentum=phase.momentum, nesterov=nesterov, **common)
    kind = torch.optim.Adam if phase.optimiser == "adam" else torch.optim.AdamW
    return kind(given, betas=phase.betas, **common)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its rate for the step to come."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def clip(model: nn.Module, phase: Phase) -> None:
    """Limit the gradient as the phase says."""
    if phase.clip_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), phase.clip_value)
    if phase.clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), phase.clip)
