"""A training that diverges stops at the step where it does, and says which step, episodes and layers it was."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from labkit.common.errors import few

LISTED = 4  # gradients that the message names


class Watch:
    """Whether loss and gradients are finite, kept on the device: no step makes the host wait for a GPU.

    `note` belongs into every step, `check` wherever the host may wait: on a CPU in every step, before weights change;
    on a GPU where a step-group ends, and the first bad step is still the one that is named.
    """

    def __init__(self, model: nn.Module, count: int, device: torch.device) -> None:
        self.parameters = dict(model.named_parameters())
        self.bad_step = torch.zeros((), dtype=torch.int64, device=device)  # counted from 1; 0 while all is well
        self.loss = torch.zeros((), device=device)
        self.bad = torch.zeros(count, dtype=torch.bool, device=device)  # of the step's episodes, or pictures
        self.norms = torch.zeros(2, len(self.parameters), device=device)  # of the step before, of this step

    @torch.no_grad()
    def note(self, step: int, loss: Tensor, scores: Tensor) -> None:
        """Keep loss, scores and the gradients' norms of step number `step`, unless an earlier one was bad.

        Scores are of episodes [E, Q, N], or of pictures [B, N].
        """
        zero = torch.zeros((), device=loss.device)
        some = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        found = dict(zip(some, torch._foreach_norm(list(some.values())), strict=True))
        norms = torch.stack([found.get(name, zero).float() for name in self.parameters])
        well = self.bad_step == 0
        now = {
            "loss": loss.detach().float(),
            "bad": ~scores.detach().isfinite().reshape(len(self.bad), -1).all(1),
            "norms": torch.stack([self.norms[1], norms]),
        }
        for name, value in now.items():
            setattr(self, name, torch.where(well, value, getattr(self, name)))
        fine = loss.isfinite() & norms.isfinite().all()
        self.bad_step = torch.where(well & ~fine, step, self.bad_step)

    def check(self, seed: int, kind: str, numbers: Callable[[int], Sequence[int]], kept: str) -> None:
        """Stop if a noted step was bad.

        Args:
            kind: of what a step takes, in words: episodes or pictures.
            numbers: of those of a step, as far as this process has them; the step is counted from 0.

        Raises:
            FloatingPointError: loss or gradients were not finite.
        """
        step = int(self.bad_step)
        if step == 0:
            return
        loss, before, at = float(self.loss), *self.norms.cpu()
        taken = list(numbers(step - 1))
        guilty = [i for i, bad in zip(taken, self.bad.tolist(), strict=True) if bad]
        what = f"the gradient of a loss of {loss}" if math.isfinite(loss) else f"the loss of {loss}"
        raise FloatingPointError(
            f"{what} is not finite at step {step} (seed {seed}, {kind} {_listed(taken)}"
            + (f"; scores are not finite in {_listed(guilty)}" if guilty else "")
            + f"). Largest gradients there: {self._largest(at)}; one step before: {self._largest(before)}. {kept} "
            "Calling it again fails at the same step: lower learning_rate or set clip, and give the run another folder"
        )

    def _largest(self, norms: Tensor) -> str:
        order = norms.nan_to_num(torch.inf, torch.inf).argsort(descending=True, stable=True)[:LISTED].tolist()
        names = list(self.parameters)
        lost = int((~norms.isfinite()).sum())
        more = f" ({lost} of {len(names)} are not finite)" if lost else ""
        return ", ".join(f"{names[i]} {float(norms[i]):.3g}" for i in order) + more


def check_finite(state: Mapping[str, Tensor], step: int, kept: str) -> None:
    """Check weights that are about to be written.

    Raises:
        FloatingPointError: one of them is not finite; a step may break weights though its own loss was fine.
    """
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise FloatingPointError(
            f"after step {step} weights are not finite: {few(broken, LISTED)}; nothing was written. {kept}"
        )


def _listed(numbers: list[int]) -> str:
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
