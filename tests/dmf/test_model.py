"""The head against golden numbers and against its literal form."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from labkit.dmf.model import DMF
from labkit.dmf.sampling import regular_grid
from labkit.methods.base import mean_of_shots
from labkit.methods.losses import few_shot_loss
from tests.helpers.features import Features
from tests.helpers.literal import literal_head
from tests.helpers.places import GOLDEN as GOLDENS

GOLDEN = GOLDENS / "dmf_head_k1.npz"


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


def test_a_filter_is_the_sum_of_the_nine_projections_each_read_at_its_own_point() -> None:
    torch.manual_seed(0)
    model = head(6, 3)
    support, query = torch.randn(2, 4, 6, 5, 3, dtype=torch.float64), torch.randn(2, 1, 6, 5, 3, dtype=torch.float64)
    projected = model.projected(support)
    assert projected.shape == (2, 4, 9, 3, 5, 3)
    grid = torch.zeros(2, 1, 4, 9, 2, 5, 3, dtype=torch.float64) + regular_grid(5, 3, support)
    padded = nn.functional.pad(projected, (1, 1, 1, 1))
    summed = sum(padded[:, :, 3 * y + x, :, y : y + 5, x : x + 3] for y in range(3) for x in range(3))
    torch.testing.assert_close(model.filters(support, query, grid)[:, 0, :, :, 0], summed.sigmoid())


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_points_of_any_type_of_number_are_read(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = head(6, 3).float()
    support, query = torch.randn(1, 4, 6, 5, 3), torch.randn(1, 2, 6, 5, 3)
    points = torch.randint(-1, 5, (1, 2, 4, 9, 2, 5, 3))
    expected = model.filters(support, query, points.float())
    assert torch.equal(model.filters(support, query, points.to(dtype)), expected)
    with torch.no_grad():
        torch.testing.assert_close(model.filters(support, query, points.to(dtype)), expected)


@pytest.mark.parametrize("sampling", [True, False])
def test_filters_alone_are_computed_in_single_precision_under_autocast(sampling: bool) -> None:
    torch.manual_seed(0)
    model = head(6, 3, sampling=sampling).float()
    support, query = torch.randn(1, 4, 6, 5, 3), torch.randn(1, 2, 6, 5, 3)
    for gradient in (True, False):
        with torch.set_grad_enabled(gradient):
            expected = model.filters(support, query)
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.equal(model.filters(support, query), expected)


def test_offsets_can_be_asked_of_other_weights_and_the_model_keeps_its_own() -> None:
    torch.manual_seed(0)
    model, other = head(6, 3), head(6, 3)
    support, query = torch.randn(1, 4, 6, 5, 3, dtype=torch.float64), torch.randn(1, 2, 6, 5, 3, dtype=torch.float64)
    own = model.offsets(support, query)
    assert torch.equal(model.offsets(support, query, other.offset_conv.weight), other.offsets(support, query))
    assert torch.equal(model.offsets(support, query), own)


def test_a_score_depends_on_its_own_query_and_episode_only() -> None:
    torch.manual_seed(0)
    model = head(6, 3, alignment="dopri5")
    support = torch.randn(2, 3, 2, 6, 4, 4, dtype=torch.float64)
    query = torch.randn(2, 5, 6, 4, 4, dtype=torch.float64)
    scores = model(support, query)
    order = torch.randperm(5)
    torch.testing.assert_close(model(support, query[:, order]), scores[:, order], atol=1e-12, rtol=0)
    torch.testing.assert_close(model(support[1:], query[1:]), scores[1:], atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "choices", [{"alignment": "closed"}, {"alignment": "rk4", "kernel": 3}, {"preset": "released"}]
)
def test_scores_in_parts_are_the_scores(choices: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = head(6, 3, **choices)
    support = torch.randn(2, 3, 1, 6, 4, 4, dtype=torch.float64)
    query = torch.randn(2, 7, 6, 4, 4, dtype=torch.float64)
    whole = model(support, query)
    monkeypatch.setattr("labkit.dmf.model.PAIR_BYTES", 2 * 2 * 3 * (3 if model.choices.kernel == 1 else 54) * 16 * 8)
    with torch.no_grad():
        assert model.queries_at_once(support[:, :, 0], query) == 2
        torch.testing.assert_close(model(support, query), whole, atol=1e-12, rtol=0)


def test_masked_shots_do_not_count() -> None:
    torch.manual_seed(0)
    model = head(6, 3)
    support = torch.randn(1, 2, 3, 6, 4, 4, dtype=torch.float64)
    query = torch.randn(1, 4, 6, 4, 4, dtype=torch.float64)
    mask = torch.tensor([[[True, True, False], [True, True, False]]])
    torch.testing.assert_close(model(support, query, mask), model(support[:, :, :2], query))


def test_trace_is_what_forward_does() -> None:
    torch.manual_seed(0)
    model = DMF("conv4", 4, "released", backbone_options={"width": 8}, alignment="dopri5").eval()
    support, query = torch.randn(2, 3, 2, 3, 40, 40), torch.randn(2, 4, 3, 40, 40)
    trace = model.trace(support, query)
    torch.testing.assert_close(trace.scores, model(support, query))
    assert list(trace.offsets.shape) == list(trace.points.shape) == [2, 4, 3, 9, 2, 5, 5]
    assert list(trace.filters.shape) == [2, 4, 3, 4, 1, 5, 5]
    assert list(trace.aligned.shape) == [2, 4, 3, 8, 5, 5]
    assert list(trace.score_maps.shape) == [2, 4, 3, 7, 7]
    assert len(trace.nfe) == 2
    assert all(n >= 14 for n in trace.nfe)
    centre = trace.points - trace.offsets
    assert centre[0, 0, 0, 4, :, 2, 3].tolist() == [2, 3]  # the middle tap is the position itself
    assert centre[0, 0, 0, 0, :, 2, 3].tolist() == [1, 2]
    torch.testing.assert_close(trace.points_px, 8 * trace.points + 3.5)


def test_the_printed_loss_is_equation_12_and_has_no_bottom() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 3, 2, 2, dtype=torch.float64)
    labels = torch.tensor([[0, 1, 2, 0]])
    terms = [
        torch.log(torch.exp(-maps[0, q, labels[0, q], s, t]) / (1 + torch.exp(-maps[0, q, :, s, t])).sum())
        for q in range(4)
        for s in range(2)
        for t in range(2)
    ]
    torch.testing.assert_close(few_shot_loss(maps, labels, "printed"), torch.stack(terms).mean())
    up = [few_shot_loss(maps * 0 + height, labels, "printed").item() for height in (10.0, 100.0, 1000.0)]
    assert up[2] < up[1] < up[0]
    assert up[2] < -900


def test_loss_weights_and_what_the_global_classifier_reads() -> None:
    torch.manual_seed(0)
    support, query = torch.randn(1, 2, 1, 6, 4, 4), torch.randn(1, 3, 6, 4, 4)
    labels, base = torch.tensor([[0, 1, 1]]), torch.tensor([[5, 2, 2]])
    for preset, weights in (("paper", (1.0, 0.5)), ("released", (0.5, 1.0))):
        model = DMF(Features(6), 3, preset, classes=9)
        losses = model.loss(support, query, labels, base)
        torch.testing.assert_close(losses.total, weights[0] * losses.few_shot + weights[1] * losses.auxiliary)
        read = query[0]
        if preset == "paper":
            own = model.align(query, model.filters(support.squeeze(2), query))[0][0]
            read = torch.stack([own[q, labels[0, q]] for q in range(3)])
        logits = model.global_classifier(read)
        expected = nn.functional.cross_entropy(logits, base[0][:, None, None].expand(-1, 4, 4))
        torch.testing.assert_close(losses.auxiliary, expected)


def test_the_order_of_the_offset_input_only_names_the_halves_of_its_weights() -> None:
    """Same loss and same gradients, to the bit, with the halves exchanged: so is every step of training."""
    torch.manual_seed(0)
    one, other = (DMF(Features(6), 3, alignment="closed", offset_input=o) for o in ("support-query", "query-support"))
    other.load_state_dict(one.state_dict())
    other.offset_conv.weight.data = torch.cat(one.offset_conv.weight.data.chunk(2, dim=1)[::-1], dim=1)
    support, query = torch.randn(1, 2, 1, 6, 4, 4), torch.randn(1, 3, 6, 4, 4)
    labels = torch.tensor([[0, 1, 1]])
    losses = [m.loss(support, query, labels, labels).total for m in (one, other)]
    assert losses[0] == losses[1]
    for loss in losses:
        loss.backward()
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        swapped = torch.cat(b.grad.chunk(2, dim=1)[::-1], dim=1) if name == "offset_conv.weight" else b.grad
        assert torch.equal(a.grad, swapped), name


def test_a_variant_shares_the_weights_and_only_the_weights() -> None:
    torch.manual_seed(0)
    model = head(6, 3, alignment="closed").eval()
    bare = model.variant(alignment="none")
    x_supp, x_q = torch.randn(1, 2, 6, 4, 4).double(), torch.randn(1, 3, 6, 4, 4).double()
    assert bare.filter_conv.weight is model.filter_conv.weight
    assert (bare.rule.name, model.rule.name) == ("none", "closed")
    expected = torch.einsum("eqchw,enc->eqn", x_q, x_supp.mean((-2, -1))) / 16
    torch.testing.assert_close(bare.score(x_supp[:, :, None], x_q), expected)
    with pytest.raises(ValueError, match="other weights"):
        model.variant(kernel=3, alignment="rk4")


def test_any_module_that_gives_maps_is_a_backbone() -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnet10t", pretrained=False, features_only=True, out_indices=(2,))

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images)[0]

    model = DMF(Maps(), groups=8, alignment="closed").eval()
    with torch.no_grad():
        scores = model(torch.randn(1, 2, 1, 3, 64, 64), torch.randn(1, 3, 3, 64, 64))
    assert list(scores.shape) == [1, 3, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"groups": 7}, "must divide the backbone's 8 channels: one of \\[1, 2, 4, 8\\]"),
        ({"groups": 0}, "groups must be at least 1, got 0"),
        ({"preset": "ours"}, "'paper', 'released'"),
        ({"kernel": 2}, "odd"),
        ({"kernel": 3, "alignment": "closed"}, "kernel 1 only"),
        ({"class_weight": "sum"}, "class_weight must be one of"),
        ({"colour": 1}, "unknown choices \\['colour'\\]"),
        ({"backbone": "vgg"}, "'conv4', 'features', 'resnet12', 'wrn28'"),
        ({"backbone": nn.Flatten()}, "must give feature maps"),
    ],
)
def test_impossible_models_are_refused_by_name(arguments: dict, said: str) -> None:
    given = {"backbone": Features(8), "groups": 4} | arguments
    with pytest.raises(ValueError, match=said):
        DMF(**given)
