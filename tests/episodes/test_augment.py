"""Augmentation: by each image's own draw, and each part does what it says."""

import pytest
import torch

from labkit.episodes.augment import Augment

NOTHING = {"crop": "none", "flip": 0.0, "jitter": 0.0, "erase": 0.0}


def augmented(unit: torch.Tensor, **parts: object) -> torch.Tensor:
    return Augment(**(NOTHING | parts))(unit[None], [(0, 0)])[0]  # type: ignore[arg-type]


@pytest.fixture
def unit() -> torch.Tensor:
    return torch.rand(40, 3, 21, 21, generator=torch.Generator().manual_seed(0))


def test_nothing_asked_changes_nothing(unit: torch.Tensor) -> None:
    torch.testing.assert_close(augmented(unit), unit, atol=1e-5, rtol=0)


def test_shift_moves_whole_pixels_up_to_the_padding(unit: torch.Tensor) -> None:
    moved = augmented(unit, crop="shift", padding=2 / 21)
    padded = torch.nn.functional.pad(unit, [2] * 4)
    seen = set()
    for before, after in zip(padded, moved, strict=True):
        fits = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if torch.allclose(before[:, dy : dy + 21, dx : dx + 21], after, atol=1e-4)
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > 10


@pytest.mark.parametrize("crop", ["shift", "resized"])
def test_the_default_type_of_numbers_changes_nothing(unit: torch.Tensor, crop: str) -> None:
    expected = augmented(unit, crop=crop, flip=0.5)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(augmented(unit, crop=crop, flip=0.5), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_flip_mirrors_about_half(unit: torch.Tensor) -> None:
    out = augmented(unit, flip=0.5)
    mirrored = [torch.allclose(a.flip(-1), b, atol=1e-5) for a, b in zip(unit, out, strict=True)]
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(unit, out, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 8 < sum(mirrored) < 32


def test_jitter_differs_by_image_and_stays_in_range(unit: torch.Tensor) -> None:
    flat = torch.full_like(unit, 0.5)
    out = augmented(flat, jitter=0.4)
    levels = out.mean((1, 2, 3))
    assert out.min() >= 0
    assert out.max() <= 1
    assert levels.unique().numel() == len(unit)
    assert levels.min() >= 0.3 - 1e-6  # grey keeps its contrast and saturation; brightness is 0.6 to 1.4
    assert levels.max() <= 0.7 + 1e-6


def test_jitter_changes_contrast_and_saturation_too(unit: torch.Tensor) -> None:
    red, grey = torch.tensor([0.6, 0.4, 0.4]), torch.tensor([0.5, 0.5, 0.5])
    picture = torch.where(torch.arange(21)[None, :, None] < 10, red[:, None, None], grey[:, None, None])
    out = augmented(picture.expand(40, 3, 21, 21), jitter=0.4)
    contrast = out[:, :, 0, 0].mean(1) / out[:, :, -1, 0].mean(1)  # of brightness alone it would stay as it was
    assert contrast.std() > 0.005
    colour = (out[:, 0, 0, 0] - out[:, 1, 0, 0]) / (out.mean(1).amax((1, 2)) - out.mean(1).amin((1, 2)))
    assert colour.std() / colour.mean() > 0.1  # of brightness and contrast alone it would


def test_erasing_paints_one_rectangle_of_the_fill(unit: torch.Tensor) -> None:
    out = augmented(unit, erase=1.0, fill=(2.0, 2.0, 2.0))
    for image in out:
        hole = (image == 2).all(0)
        rows, columns = hole.any(1), hole.any(0)
        assert hole.sum() == rows.sum() * columns.sum()
        assert 0.01 < hole.float().mean() < 0.45
    assert (augmented(unit, erase=0.5, fill=(2.0, 2.0, 2.0)) == 2).any(dim=(1, 2, 3)).sum() in range(8, 33)


def test_resized_crop_shows_a_part_of_the_image_enlarged() -> None:
    ramp = torch.linspace(0, 1, 84).expand(20, 3, 84, 84).contiguous()
    out = augmented(ramp, crop="resized")
    span = out[:, 0, 42, -2] - out[:, 0, 42, 1]
    assert (span > 0).all()
    assert (span < 1).all()
    assert span.std() > 0.1
    down = augmented(ramp.transpose(2, 3).contiguous(), crop="resized")
    other = down[:, 0, -2, 42] - down[:, 0, 1, 42]
    assert (other / span).log().std() > 0.05  # its sides are of another proportion


def test_another_seed_is_another_draw_and_images_of_an_episode_differ(unit: torch.Tensor) -> None:
    same = unit[:1].expand(4, -1, -1, -1)
    a, b = Augment()(same[None], [(0, 1)])[0], Augment()(same[None], [(0, 2)])[0]
    assert not torch.allclose(a, b)
    assert not torch.allclose(a[0], a[1])
    assert torch.equal(a, Augment()(same[None], [(0, 1)])[0])


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (7, 40)])
def test_pictures_that_are_not_square_are_moved_by_whole_pixels_of_either_side(size: tuple[int, int]) -> None:
    unit = torch.rand(30, 3, *size, generator=torch.Generator().manual_seed(0))
    assert Augment(crop="resized")(unit[None], [(0, 0)])[0].shape == unit.shape
    (height, width), share = size, 0.1
    y, x = round(share * height), round(share * width)
    padded = torch.nn.functional.pad(unit, (x, x, y, y))
    for before, after in zip(padded, augmented(unit, crop="shift", padding=share), strict=True):
        places = [(dy, dx) for dy in range(2 * y + 1) for dx in range(2 * x + 1)]
        moved = [before[:, dy : dy + height, dx : dx + width] for dy, dx in places]
        assert any(torch.allclose(picture, after, atol=1e-4) for picture in moved)


def test_the_aspect_of_what_is_cut_or_erased_is_of_pixels_where_the_picture_is_not_square() -> None:
    down, across = torch.meshgrid(torch.arange(40) / 100, torch.arange(80) / 100, indexing="ij")
    pictures = torch.stack([down, across, across]).expand(60, 3, 40, 80)
    cut = augmented(pictures, crop="resized")
    scale_y, scale_x = (cut[:, 0, 35, 40] - cut[:, 0, 5, 40]) / 0.3, (cut[:, 1, 20, 70] - cut[:, 1, 20, 10]) / 0.6
    inside = (scale_y < 0.99) & (scale_x < 0.99)  # the others are as high, or as wide, as the picture
    aspect = (80 * scale_x / (40 * scale_y))[inside]
    assert inside.sum() > 20
    assert aspect.min() > 3 / 4 - 0.01
    assert aspect.max() < 4 / 3 + 0.01
    erased = augmented(pictures, erase=1.0, fill=(2.0, 2.0, 2.0))[:, 0] == 2
    height, width = (erased.any(axis).sum(1) for axis in (2, 1))
    inside = (height < 40) & (width < 80)
    assert inside.sum() > 30
    assert (width / height)[inside].log().mean().abs() < 0.3  # of shares of the sides it would be log 2, 0.7
    assert (height * width / (40 * 80))[inside].max() < 0.42


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_floating_type_is_augmented_as_single_precision_is(unit: torch.Tensor, dtype: torch.dtype) -> None:
    own = unit.to(dtype)
    found, expected = Augment()(own[None], [(0, 0)]), Augment()(own.float()[None], [(0, 0)])
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=2e-5 if dtype == torch.float64 else 4e-3, rtol=0)


@pytest.mark.parametrize(
    ("unit", "seeds", "error", "said"),
    [
        (torch.rand(2, 3, 3, 8, 8), [(0, 0)], ValueError, "one for each of the 2 episodes, got 1"),
        (torch.rand(1, 3, 3, 8, 8), [(0, 0)] * 3, ValueError, "one for each of the 1 episodes, got 3"),
        (torch.rand(1, 3, 3, 8, 8), [0], TypeError, "a seed must be a tuple of whole numbers, got 0"),
        (torch.rand(3, 3, 8, 8), [(0, 0)], ValueError, r"pictures \[E, B, 3, h, w\].*got float32 \[3, 3, 8, 8\]"),
        (torch.rand(1, 3, 8, 8, 3), [(0, 0)], ValueError, r"got float32 \[1, 3, 8, 8, 3\]"),
        (torch.zeros(1, 1, 3, 8, 8, dtype=torch.uint8), [(0, 0)], ValueError, "scale of 0 to 1, got uint8"),
        ([[0.0]], [(0, 0)], TypeError, r"unit must be a tensor \[E, B, 3, h, w\]"),
    ],
)
def test_what_cannot_be_augmented_is_said(unit: torch.Tensor, seeds: list, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        Augment()(unit, seeds)
