"""Where the paper, its released code and we decide differently: one named option each, and two presets."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from labkit.common import checks
from labkit.dmf import alignment


@dataclass(frozen=True)
class Choices:
    """Every decision that the paper, its released code or we take about the model; the defaults are the paper's.

    Attributes:
        kernel: k, size of the dynamic filter, odd (section 5.1 uses 1).
        sampling: sample X_supp at learned offsets (Eq. 4-6); False keeps the regular 3 x 3 grid (Eq. 2).
        start: where sampling starts from: ``"same"``, the query's own cell, as in the paper; ``"match"``, the support
            cell most like it (cosine). Ours, for objects that moved (section 5.4).
        alignment: see `labkit.dmf.alignment`; the released code runs ``"rk4"``.
        rtol, atol: dopri5's tolerances.
        relu: F(X) = relu(f * X), as released.
        class_weight: ``"mean"`` pools X_supp over positions; ``"normalised"`` first scales every position to unit
            length over channels, as released.
        border: surround the score map with one cell of zeros, as the released padded 1x1 convolution does; scores
            and losses are then means over (h + 2)(w + 2) cells.
        offset_input: order of the offset convolution's input channels.
        few_shot_loss: ``"softmax"`` is cross-entropy over classes at every position, our correction of Eq. 12;
            ``"printed"`` is Eq. 12 as it stands, unbounded below.
        loss_weights: of the few-shot and the global loss (Eq. 10).
        global_reads: ``"aligned"``, the query aligned with its own class (Eq. 11), or ``"backbone"``, as released.
        score_scale: multiplies the score map; ours, 1 in paper and released code.
        offset_scale: multiplies the usual initial weights of the offset convolution; ours.
    """

    kernel: int = 1
    sampling: bool = True
    start: Literal["same", "match"] = "same"
    alignment: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    relu: bool = False
    class_weight: Literal["mean", "normalised"] = "mean"
    border: bool = False
    offset_input: Literal["support-query", "query-support"] = "support-query"
    few_shot_loss: Literal["softmax", "printed"] = "softmax"
    loss_weights: tuple[float, float] = (1.0, 0.5)
    global_reads: Literal["aligned", "backbone"] = "aligned"
    score_scale: float = 1.0
    offset_scale: float = 1.0

    def __post_init__(self) -> None:
        checks.kind("loss_weights", self.loss_weights, (tuple, list), "two numbers")
        if len(self.loss_weights) != 2:
            raise ValueError(f"loss_weights must be two numbers, few-shot and global, got {self.loss_weights}")
        checked: dict[str, Any] = {
            "loss_weights": tuple(checks.finite("a loss weight", v, least=0) for v in self.loss_weights),
            "score_scale": checks.finite("score_scale", self.score_scale, above=0),
            "offset_scale": checks.finite("offset_scale", self.offset_scale, least=0),
            "kernel": checks.check_int("kernel", self.kernel),
        }
        checked |= {name: checks.flag(name, getattr(self, name)) for name in ("sampling", "relu", "border")}
        rule = alignment.parse_rule(self.alignment, self.rtol, self.atol)
        checked |= {"rtol": rule.rtol, "atol": rule.atol}
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        if rule.name == "closed" and self.kernel > 1:
            raise ValueError("alignment 'closed' exists at kernel 1 only; use 'dopri5' or 'rk4'")
        if self.start != "same" and not self.sampling:
            raise ValueError(f"start {self.start!r} moves the sampled points, and sampling is off")
        checks.literals(Choices, vars(self))


PRESETS = {
    "paper": Choices(),
    "released": Choices(
        alignment="rk4",
        relu=True,
        class_weight="normalised",
        border=True,
        offset_input="query-support",
        loss_weights=(0.5, 1.0),
        global_reads="backbone",
    ),
}


def replace_choices(choices: Choices, changes: dict[str, Any]) -> Choices:
    """`choices` with some fields changed.

    Raises:
        ValueError: a field that does not exist, or a choice that is impossible.
    """
    unknown = sorted(set(changes) - set(asdict(choices)))
    if unknown:
        raise ValueError(f"unknown choices {unknown}; there are {sorted(asdict(choices))}")
    return replace(choices, **changes)
