"""The head against golden numbers and against its literal form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from labkit.dmf import DMF, mean_of_shots
from tests.literal import literal_head

GOLDEN = Path(__file__).parent / "golden" / "dmf_head_k1.npz"


class Features(nn.Module):
    """A backbone whose images are feature maps already."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        return images


def head(channels: int, groups: int, **choices: object) -> DMF:
    return DMF(Features(channels), groups, **choices).double()  # type: ignore[arg-type]


@pytest.fixture
def golden() -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}


def test_golden_numbers_of_the_released_head(golden: dict[str, Tensor]) -> None:
    model = DMF(Features(32), int(golden["groups"]), "released", border=False)
    model.offset_conv.weight.data = golden["offset_weight"]
    model.filter_conv.weight.data = golden["filter_weight"]
    support, query = golden["support"][None], golden["query"][None]
    filters = model.filters(support, query)
    torch.testing.assert_close(model.offsets(support, query)[0].flatten(2, 3), golden["offset"], atol=1e-4, rtol=0)
    torch.testing.assert_close(filters[0].squeeze(3), golden["filter"], atol=1e-4, rtol=0)
    torch.testing.assert_close(model.align(query, filters)[0][0], golden["aligned_rk4"], atol=1e-4, rtol=0)
    maps = model.score_maps(support, query, filters)[0]
    torch.testing.assert_close(maps, golden["score_map"], atol=1e-4, rtol=0)


cases = st.fixed_dictionaries(
    {
        "way": st.integers(1, 4),
        "shot": st.integers(1, 3),
        "queries": st.integers(1, 3),
        "height": st.integers(1, 5),
        "width": st.integers(1, 5),
        "groups": st.sampled_from([1, 2, 3, 6]),
        "kernel": st.sampled_from([1, 3]),
        "alignment": st.sampled_from(["none", "recurrent(1)", "recurrent(3)", "euler(2)", "rk4", "dopri5", "closed"]),
        "sampling": st.booleans(),
        "relu": st.booleans(),
        "border": st.booleans(),
        "class_weight": st.sampled_from(["mean", "normalised"]),
        "offset_input": st.sampled_from(["support-query", "query-support"]),
        "reach": st.sampled_from([0.1, 1.0, 30.0]),
        "seed": st.integers(0, 2**31),
    }
)


@settings(max_examples=60)
@given(cases)
def test_fast_form_is_the_literal_form_in_value_and_gradient(case: dict) -> None:
    case = dict(case)
    if case["kernel"] == 3 and (case["alignment"] == "closed" or (case["alignment"] == "dopri5" and case["relu"])):
        case["alignment"] = "rk4"  # no closed form; and a ReLU's kink breaks an adaptive solver's order
    way, shot, queries, h, w, reach = (case.pop(k) for k in ("way", "shot", "queries", "height", "width", "reach"))
    torch.manual_seed(case.pop("seed"))
    model = head(6, case.pop("groups"), rtol=1e-11, atol=1e-11, **case)
    # Offsets far outside the map, and away from integers, where bilinear sampling has a kink and no gradient.
    model.offset_conv.weight.data *= reach
    support = torch.randn(2, way, shot, 6, h, w, dtype=torch.float64, requires_grad=True)
    query = torch.randn(2, queries, 6, h, w, dtype=torch.float64, requires_grad=True)
    if model.choices.sampling:
        offsets = model.offsets(mean_of_shots(support), query)
        if ((offsets - offsets.round()).abs() < 1e-6).any():
            return
    slow = literal_head(support, query, model)
    filters = model.filters(mean_of_shots(support), query)
    maps = model.score_maps(mean_of_shots(support), query, None if model.rule.name == "none" else filters)
    expected_filters = slow["filters"] if model.choices.sampling else slow["filters"][:, :1]
    torch.testing.assert_close(filters, expected_filters, atol=1e-8, rtol=0)
    torch.testing.assert_close(model.align(query, filters)[0], slow["aligned"], atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(maps, slow["score_map"], atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(model(support, query), slow["score_map"].mean((-2, -1)), atol=1e-8, rtol=1e-8)

    inputs = [support, query, model.offset_conv.weight, model.filter_conv.weight]
    direction = torch.randn_like(maps)
    fast_gradients = torch.autograd.grad((maps * direction).sum(), inputs, allow_unused=True, retain_graph=True)
    slow_gradients = torch.autograd.grad((slow["score_map"] * direction).sum(), inputs, allow_unused=True)
    for fast, literal, of in zip(fast_gradients, slow_gradients, inputs, strict=True):
        pair = [torch.zeros_like(of) if g is None else g for g in (fast, literal)]
        torch.testing.assert_close(*pair, atol=1e-8, rtol=1e-8)
