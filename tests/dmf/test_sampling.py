"""Bilinear sampling: every form of it, against torchvision's deformable convolution and against one another."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import deform_conv2d

from labkit.dmf.sampling import regular_grid, sample, sample_by_bag, sample_by_grid

FORMS = {
    "shipped": sample,
    "grid": sample_by_grid,
    "bag": sample_by_bag,
}


@pytest.mark.parametrize("form", FORMS)
@given(h=st.integers(1, 5), w=st.integers(1, 5), reach=st.sampled_from([0.3, 2.0, 50.0]), seed=st.integers(0, 2**31))
def test_samples_are_those_of_deformable_convolution(form: str, h: int, w: int, reach: float, seed: int) -> None:
    """psi first and sampling after, against torchvision, which samples first."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, h, w, dtype=torch.float64, generator=generator)
    psi = torch.randn(3, 4, 3, 3, dtype=torch.float64, generator=generator)
    offsets = reach * torch.randn(2, 5, 9, 2, h, w, dtype=torch.float64, generator=generator)
    projected = torch.einsum("bchw,dct->btdhw", x, psi.flatten(2))
    found = FORMS[form](projected, offsets + regular_grid(h, w, x))
    expected = [deform_conv2d(x, offsets[:, q].flatten(1, 2), psi, padding=1) for q in range(5)]
    torch.testing.assert_close(found, torch.stack(expected, 1), atol=1e-10, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_agree(form: str) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 9, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    points = (3 * torch.rand(2, 6, 9, 2, 4, 5, dtype=torch.float64) - 0.5).requires_grad_()
    direction = torch.randn(2, 6, 3, 4, 5, dtype=torch.float64)
    expected, found = (
        torch.autograd.grad((f(maps, points) * direction).sum(), [maps, points]) for f in (sample_by_grid, FORMS[form])
    )
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("form", ["shipped", "bag"])
@pytest.mark.parametrize("point", [float("nan"), float("inf"), -1e30, 1e9])
def test_points_that_are_nowhere_read_nothing_that_is_not_theirs(form: str, point: float) -> None:
    """Far away is zero; not a number stays so, for whoever checks the loss; neighbours are untouched."""
    torch.manual_seed(0)
    maps, points = torch.randn(1, 9, 3, 2, 2), torch.rand(1, 1, 9, 2, 2, 2)
    expected = FORMS[form](maps, points)
    points[0, 0, :, :, 1, 1] = point
    found = FORMS[form](maps, points)
    torch.testing.assert_close(found[..., 0, :], expected[..., 0, :])
    far = found[..., 1, 1]
    assert (far == 0).all() if abs(point) < float("inf") else far.isnan().all()
