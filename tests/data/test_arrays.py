"""Image sets of what Python holds already: arrays, and data sets of torchvision's and Hugging Face's kinds."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from labkit.data.imageset import ImageSet
from labkit.episodes.sampler import EpisodeSampler
from tests.helpers.real_files import some_pixels

PIXELS = some_pixels(6, 16)


def test_arrays() -> None:
    images = ImageSet.from_arrays(PIXELS, [7, 7, 3, 3, 9, 9], {3: "cat", 7: "dog", 9: "owl", 11: "nobody"})
    assert images.class_names == ("cat", "dog", "owl")
    assert images.labels.tolist() == [1, 1, 0, 0, 2, 2]
    assert np.array_equal(images.pixels, PIXELS)
    assert images.provenance.resampling == "none"
    assert len(EpisodeSampler(images, 3, 1, 1, seed=0)[0].support) == 3
    other = ImageSet.from_arrays(PIXELS[::-1], [7, 7, 3, 3, 9, 9])
    assert other.class_names == ("3", "7", "9")
    assert other.provenance.digest != images.provenance.digest
    assert len(EpisodeSampler(other, 3, 1, 1, seed=0)[0].support) == 3  # torch takes no negative strides
    assert other.labels_digest != images.labels_digest  # of names
    assert ImageSet.from_arrays(PIXELS, [7, 3, 7, 3, 9, 9]).labels_digest != other.labels_digest  # of labels
    named = ImageSet.from_arrays(PIXELS, ["dog", "cat"] * 3, {0: "cat", 1: "dog", 2: "owl"})
    assert named.class_names == ("cat", "dog")


def test_arrays_of_other_kinds() -> None:
    grey = ImageSet.from_arrays(torch.from_numpy(PIXELS[..., 0]), torch.tensor([0, 1] * 3), ["a", "b"])
    assert np.array_equal(grey.pixels, np.repeat(PIXELS[..., :1], 3, axis=3))
    named = ImageSet.from_arrays(PIXELS[:, :10], np.array(list("baabab")), size=np.int64(8), split="val")
    assert (named.class_names, named.labels.tolist()) == (("a", "b"), [1, 0, 0, 1, 0, 1])
    texts = ImageSet.from_arrays(PIXELS, [0, 1] * 3, np.array(["a", "b"]), categories=np.array(["x", "y"]))
    assert {type(name) for name in (*texts.class_names, *texts.categories)} == {str}  # type: ignore[misc]
    assert (named.size, named.provenance.source_size, named.provenance.resampling) == (8, "16x10", "bilinear")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"names": {"a", "b"}}, TypeError, "names must be a list of texts, one a class: a set has no order; got"),
        ({"labels": list("ababab"), "names": {"a", "b"}}, TypeError, "names must be .*: a set has no order; got"),
        ({"names": 5}, TypeError, "names must be a list of texts, one a class, got 5"),
        ({"names": {0: "a", 1: 5}}, TypeError, "names must be a list of texts, one a class, got 5 among them"),
        ({"categories": ["x", 5]}, TypeError, "categories must be a list of texts, one a class, got 5 among them"),
        ({"categories": {"x", "y"}}, TypeError, "categories must be .*: a set has no order; got"),
        ({"pixels": PIXELS.transpose(0, 3, 1, 2)}, ValueError, r"put the channels last, with transpose\(0, 2, 3, 1\)"),
        ({"pixels": PIXELS[:, :9]}, ValueError, "images must be square, got 9 x 16 pixels: pass size=84"),
        (
            {"pixels": [*PIXELS[:5], PIXELS[5, 1:]]},
            ValueError,
            r"of one shape, got \[16, 16, 3\] and \[15, 16, 3\]: resize them before, or .*from_dataset with size=84",
        ),
        ({"pixels": "x"}, TypeError, "pixels must be an array"),
        ({"labels": [0] * 5}, ValueError, "6 images but 5 labels"),
        ({"labels": [0.5] * 6}, TypeError, "labels must be whole numbers"),
        ({"labels": [0, 1, 2, 3, 4, 5]}, ValueError, "label 2 has no name; there are 2"),
        ({"names": "ab"}, TypeError, "names must be a list of texts"),
        ({"names": ["a", "a"]}, ValueError, "every class needs a name of its own"),
        ({"names": ["a", "\udce9"]}, ValueError, "class names must be text that UTF-8 can hold"),
        ({"split": "valid"}, ValueError, "split must be one of"),
        ({"size": 0}, ValueError, "size must be a whole number from 1 to 1024"),
    ],
)
def test_arrays_that_do_not_fit(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ImageSet.from_arrays(**({"pixels": PIXELS, "labels": [0, 1] * 3, "names": ["a", "b"]} | options))


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (PIXELS / 255, "np.rint(255 * pixels).astype('uint8')"),
        (torch.from_numpy(PIXELS / 255).bfloat16(), "np.rint(255 * pixels).astype('uint8')"),
        (PIXELS.astype(np.float32) * 0.999 - 0.1, "np.rint(pixels).astype('uint8')"),
        (PIXELS.astype(np.int64), "(pixels).astype('uint8')"),
        (PIXELS > 100, "(255 * pixels).astype('uint8')"),
    ],
)
def test_what_is_advised_for_other_numbers_keeps_the_pictures(given: Any, advice: str) -> None:
    with pytest.raises(ValueError, match=rf"from 0 to 255, got .* from .*: convert them with {re.escape(advice)}$"):
        ImageSet.from_arrays(given, [0, 1] * 3)
    pixels = given.float().numpy() if isinstance(given, torch.Tensor) else given
    converted = eval(advice, {"np": np, "pixels": pixels})
    assert converted.dtype == np.uint8
    full = 255 * (PIXELS > 100) if given.dtype == bool else PIXELS
    assert np.abs(converted.astype(int) - full).max() <= (given.dtype == torch.bfloat16)


@pytest.mark.parametrize("given", [PIXELS.astype(np.uint16) * 257, PIXELS / 64 - 2, PIXELS / np.nan])
def test_numbers_that_only_their_owner_can_bring_to_bytes(given: Any) -> None:
    with pytest.raises(ValueError, match=r"got .* from \S+ to \S+: bring them to 0 to 255 first, and undo a normalis"):
        ImageSet.from_arrays(given, [0, 1] * 3)


class Torchvisions:
    """What torchvision's data sets look like."""

    classes = ("cat", "dog", "owl", "nobody")

    def __init__(self, transform: Any = None, pixels: Any = PIXELS) -> None:
        self.transform, self.pixels = transform, pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        image = Image.fromarray(self.pixels[i])
        return (self.transform(image) if self.transform else image), i % 3


class HuggingFaces:
    """What a data set of Hugging Face looks like."""

    features = {"label": SimpleNamespace(names=["cat", "dog", "owl"])}  # noqa: RUF012

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"image": Image.fromarray(PIXELS[i]), "label": i % 3}


@pytest.mark.parametrize(
    "dataset",
    [
        Torchvisions(),
        Torchvisions(transforms.ToTensor()),
        Torchvisions(transforms.PILToTensor()),
        Torchvisions(np.asarray),
        HuggingFaces(),
        torch.utils.data.Subset(Torchvisions(), range(6)),  # type: ignore[arg-type]
    ],
)
def test_data_sets(dataset: Any) -> None:
    images = ImageSet.from_dataset(dataset, progress=False)
    assert images.class_names == ("cat", "dog", "owl")
    assert images.labels.tolist() == [0, 1, 2] * 2
    assert np.array_equal(images.pixels, PIXELS)
    assert images.provenance.resampling == "none"


def test_names_of_a_wrapped_data_set_are_its_own() -> None:
    class Renumbered(HuggingFaces):
        """Keeps the data set that it took its pictures from, and calls cats and owls by other numbers."""

        features: Any = None
        dataset = Torchvisions()

    assert ImageSet.from_dataset(Renumbered(), progress=False).class_names == ("0", "1", "2")
    named = Renumbered()
    named.features = {"label": SimpleNamespace(names=["owl", "dog", "cat"])}
    part = torch.utils.data.Subset(named, [0, 1])  # type: ignore[arg-type]
    assert ImageSet.from_dataset(part, progress=False).class_names == ("owl", "dog")


def test_a_data_set_of_several_sizes_and_without_names() -> None:
    listed = [(Image.fromarray(PIXELS[i]).resize((10 + i, 12)), torch.tensor(5 - i // 3)) for i in range(6)]
    images = ImageSet.from_dataset(listed, size=8, progress=False)
    assert (images.class_names, images.size) == (("4", "5"), 8)
    assert (images.provenance.source_size, images.provenance.resampling) == ("10x12 .. 15x12", "bilinear")
    with pytest.raises(ValueError, match=r"square and of one size, dataset\[0\] makes it 10 x 12: pass size=84"):
        ImageSet.from_dataset(listed, progress=False)
    assert ImageSet.from_dataset([(PIXELS[0], "owl"), (PIXELS[1], "cat")], progress=False).class_names == ("cat", "owl")


@pytest.mark.parametrize(
    ("dataset", "error", "said"),
    [
        (iter([]), TypeError, "must have a length and items"),
        ([], ValueError, "holds no image"),
        ([1], TypeError, r"dataset\[0\]: expected \(picture, label\), got a int"),
        ([("x", 1)], TypeError, r"dataset\[0\]: expected a Pillow picture, a tensor \[3, h, w\] or"),
        ([(torch.zeros(3, 8, 8), 0), (torch.randn(3, 8, 8), 0)], ValueError, r"dataset\[1\] .*leave out Normalize"),
        ([{"img": PIXELS[0], "fine_label": 1}], ValueError, "it has img, fine_label; pass image_key="),
        ([(torch.zeros(5, 8, 8), 0)], ValueError, r"expected a tensor \[3, h, w\], got \[5, 8, 8\]"),
        ([(PIXELS[0], [0, 1])], TypeError, "labels must be whole numbers"),
        (Torchvisions(lambda image: 1 / 0), ValueError, r"dataset\[0\] cannot be read: ZeroDivisionError"),
    ],
)
def test_data_sets_that_cannot_be_read(dataset: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ImageSet.from_dataset(dataset, progress=False)
    assert len(ImageSet.from_dataset([{"img": PIXELS[0], "y": 1}], image_key="img", label_key="y", progress=False)) == 1


def test_a_tensor_of_half_the_digits_is_read() -> None:
    listed = [(torch.from_numpy(p).movedim(2, 0).bfloat16() / 255, i % 2) for i, p in enumerate(PIXELS)]
    images = ImageSet.from_dataset(listed, progress=False)
    assert np.abs(images.pixels.astype(int) - PIXELS).max() <= 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"progress": 3}, "progress must be True or False, got 3"),
        ({"image_key": None}, "image_key must be the name of a column, got None"),
        ({"label_key": 1}, "label_key must be the name of a column, got 1"),
    ],
)
def test_options_of_a_data_set_that_are_none(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        ImageSet.from_dataset(HuggingFaces(), **options)
