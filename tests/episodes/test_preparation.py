"""What prepares the pictures: the same, one by one and as one compiled graph."""

import gc
import weakref

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from labkit.episodes.augment import Augment
from labkit.episodes.preparation import Preparation
from labkit.episodes.preprocessing import Preprocessing
from tests.helpers.toys import toy_images

IMAGES = toy_images()
INDEX = torch.tensor([[0, 5, 2], [7, 1, 1]])
SEEDS = [(0, 3), (0, 4)]


def preparation(augment: Augment | None) -> Preparation:
    return Preparation(IMAGES, "cpu", Preprocessing.of(IMAGES), augment)


def test_pictures_are_gathered_augmented_and_normalised() -> None:
    plain, augment = preparation(None), Augment()
    own = plain.preprocessing
    unit = own.to_unit(torch.from_numpy(IMAGES.pixels[INDEX.numpy()]))
    assert torch.equal(plain(INDEX, SEEDS), own.normalise(unit))
    assert torch.equal(preparation(augment)(INDEX, SEEDS), own.normalise(augment(unit, SEEDS)))


def test_pictures_go_with_the_preparation() -> None:
    own = preparation(None)
    kept = weakref.ref(own.pixels)
    gc.disable()
    try:
        del own
        assert kept() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "augment", [None, Augment(), Augment(crop="resized"), Augment(crop="none", jitter=0, erase=0)], ids=str
)
def test_compiled_it_is_one_graph_and_gives_the_same(augment: Augment | None) -> None:
    eager, compiled = preparation(augment), preparation(augment)
    counted = CompileCounterWithBackend("aot_eager")
    compiled.compile(counted)
    torch.testing.assert_close(compiled(INDEX, SEEDS), eager(INDEX, SEEDS), atol=1e-4, rtol=1e-4)
    assert counted.frame_count == 1
    torch.testing.assert_close(compiled(INDEX.flip(0), SEEDS), eager(INDEX.flip(0), SEEDS), atol=1e-4, rtol=1e-4)
    assert counted.frame_count == 1
