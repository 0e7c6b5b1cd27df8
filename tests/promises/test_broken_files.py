"""Cut and bit-flipped files: an error that names the file or data of the right structure; our own always tell."""

from __future__ import annotations

import collections
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labkit.common.errors import DataError
from labkit.data import load_images
from labkit.data.imageset import ImageSet
from labkit.data.sums import SUMS
from labkit.dmf.authors_checkpoint import load_released, save_released
from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.models.checkpoints import load_model, save_model
from labkit.training.checkpoints import load_state, save_state
from tests.helpers.real_files import (
    WNIDS,
    by_class,
    some_pixels,
    write_folders,
    write_mini_cache,
    write_mini_csv,
    write_mini_hdf5,
    write_mini_pickle,
    write_tiered_npz,
    write_tiered_png,
)

pytestmark = pytest.mark.integration

SIZE = 20
PIXELS = some_pixels(6, SIZE)
BY_CLASS = by_class(PIXELS)
MUTATIONS = 30  # of each file: a third cut, the others with one bit flipped
IDS = [64, 64, 65, 65, 79, 79]


def csv(root: Path) -> tuple[Path, Path]:
    table = write_mini_csv(root, "val", per_class=2, size=SIZE)
    return table, root / "images" / f"{WNIDS[1]}00000000.jpg"


def folders(root: Path, suffix: str) -> Path:
    return write_folders(root / "val", BY_CLASS, suffix) / WNIDS[0] / f"{WNIDS[0]}_0{suffix}"


# What writes a data set, and gives the file to be broken.
MINI: dict[str, Callable[[Path], Path]] = {
    "pickle, Python 2, text": lambda root: write_mini_pickle(root, "val", PIXELS, IDS, 0),
    "pickle, Python 2, binary": lambda root: write_mini_pickle(root, "val", PIXELS, IDS, 2),
    "cache-pkl": lambda root: write_mini_cache(root, "val", PIXELS, {"a": [0, 1], "b": [2, 3], "c": [4, 5]}),
    "hdf5": lambda root: write_mini_hdf5(root, "val", BY_CLASS)[0],
    "hdf5, packed": lambda root: write_mini_hdf5(root, "val", BY_CLASS, chunks=(1, SIZE, SIZE, 3), compression=9)[0],
    "hdf5, names": lambda root: write_mini_hdf5(root, "val", BY_CLASS)[1],
    "images+csv, table": lambda root: csv(root)[0],
    "images+csv, JPEG": lambda root: csv(root)[1],
    "folders, PNG": lambda root: folders(root, ".png"),
    "folders, JPEG": lambda root: folders(root, ".JPEG"),
}
TIERED: dict[str, Callable[[Path], Path]] = {
    "png-pkl, images": lambda root: write_tiered_png(root, "val", PIXELS)[0],
    "png-pkl, labels": lambda root: write_tiered_png(root, "val", PIXELS)[1],
    "npz, images": lambda root: write_tiered_npz(root, "val", PIXELS, IDS)[0],
    "npz, labels": lambda root: write_tiered_npz(root, "val", PIXELS, IDS)[1],
}
CHECKED = ("npz, images", "folders, PNG")  # their formats carry a checksum of the pixels


def load(layout: str, root: Path, size: int = SIZE) -> ImageSet:
    name, options = ("miniimagenet", {}) if layout in MINI else ("tieredimagenet", {"channel_order": "rgb"})
    return load_images(name, "val", root=root, size=size, check_counts=False, progress=False, **options)


def mutations(whole: bytes, seed: int, count: int = MUTATIONS, flips_only: bool = False) -> Iterator[bytes]:
    rng = np.random.default_rng(seed)
    for i in range(count):
        place = int(rng.integers(len(whole)))
        if i % 3 == 0 and not flips_only:
            yield whole[:place]
        else:
            flipped = bytearray(whole)
            flipped[place] ^= 1 << int(rng.integers(8))
            yield bytes(flipped)


def attempt(read: Callable[[], Any]) -> tuple[Any, str]:
    """What was read, or None and why not."""
    try:
        return read(), ""
    except ValueError as error:  # a DataError is one
        return None, str(error)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.mark.parametrize("layout", [*MINI, *TIERED])
def test_other_peoples_files(layout: str, root: Path) -> None:
    file = (MINI | TIERED)[layout](root)
    whole, intact = file.read_bytes(), load(layout, root).pixels
    outcomes: collections.Counter[str] = collections.Counter()
    for broken in mutations(whole, seed=0):
        shutil.rmtree(root.parent / "cache", ignore_errors=True)  # so that this is the first reading
        file.write_bytes(broken)
        images, error = attempt(lambda: load(layout, root))
        if images is None:
            assert file.name in error
            outcomes["refused"] += 1
            continue
        assert images.pixels.shape == (len(images), SIZE, SIZE, 3)
        assert set(images.labels) == set(range(len(images.class_names)))
        same = np.array_equal(images.pixels, intact)
        assert same or layout not in CHECKED
        outcomes["same pixels" if same else "other pixels"] += 1
    print(f"{layout}: {dict(outcomes)}")
    assert outcomes["refused"]


TEXTS = ("hdf5, names", "images+csv, table")  # lists that people correct: read anew, never called damaged


@pytest.mark.parametrize("layout", [layout for layout in (*MINI, *TIERED) if layout not in TEXTS])
def test_a_flipped_bit_is_found_from_the_second_reading_on(layout: str, root: Path) -> None:
    file = (MINI | TIERED)[layout](root)
    whole = file.read_bytes()
    load(layout, root)
    for i, broken in enumerate(mutations(whole, seed=1, count=6, flips_only=True), start=1):
        file.write_bytes(broken)
        with pytest.raises(DataError, match=file.name):
            load(layout, root, SIZE + i)  # another size is read anew
    file.write_bytes(whole)
    load(layout, root, SIZE + 1)


def test_the_message_of_the_second_reading_says_what_to_do(root: Path) -> None:
    file = MINI["pickle, Python 2, binary"](root)
    load("pickle, Python 2, binary", root)
    content = bytearray(file.read_bytes())
    content[content.index(PIXELS.tobytes()[:50])] ^= 1  # a pixel
    file.write_bytes(content)
    with pytest.raises(
        DataError,
        match=r"split_val\.pickle: the content has changed since the lab first read it, .*delete .*val-files-",
    ) as raised:
        load("pickle, Python 2, binary", root, 30)
    shutil.rmtree(str(raised.value).split("delete ")[1])
    assert len(load("pickle, Python 2, binary", root, 30)) == 6


def model() -> DMF:
    torch.manual_seed(0)
    net = DMF("resnet12", 2, "released", classes=3, backbone_options={"width": 0.01})
    net.preprocessing = Preprocessing(40, "none")
    return net


def own(kind: str, folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    if kind == "model":
        save_model(model(), folder / "m.safetensors", {"command": "none"})
        return folder / "m.safetensors", load_model
    if kind == "model, half precision":
        save_model(model(), folder / "m.safetensors", half=True)
        return folder / "m.safetensors", load_model
    net = model()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net.backbone(torch.randn(2, 3, 16, 16)).sum().backward()
    optimiser.step()
    save_state({"step": 1, "model": net.state_dict(), "optimiser": optimiser.state_dict()}, folder / "last.pt")
    return folder / "last.pt", load_state


@pytest.mark.parametrize("kind", ["model", "model, half precision", "training"])
def test_our_own_checkpoints_always_tell(kind: str, tmp_path: Path) -> None:
    file, read = own(kind, tmp_path)
    whole = file.read_bytes()
    read(file)
    for broken in mutations(whole, seed=2, count=60):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=f"{file.name}.*damaged"):
            read(file)


@pytest.mark.parametrize("name", ["pixels.npy", "masks.npy", "labels.npy", "about.json", "recipe.json", SUMS])
def test_our_own_caches_always_tell(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))

    def render() -> ImageSet:
        return load_images("glyphs-mini", "val", size=16, per_class=1, progress=False)

    render()
    (file,) = tmp_path.glob(f"*/{name}")
    whole = file.read_bytes()
    for broken in mutations(whole, seed=3, count=15):
        file.write_bytes(broken)
        with pytest.raises(
            DataError, match=f"damaged since it was written, .*{SUMS}" if name == SUMS else f"{name}: damaged"
        ):
            render()
    file.write_bytes(whole)
    render()


@pytest.mark.parametrize("zipped", [True, False])
def test_the_authors_checkpoints(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "x.pth.tar"
    save_released(model(), file)
    if zipped:
        torch.save(torch.load(file, weights_only=True), file)
    whole, intact = file.read_bytes(), load_released(file).state_dict()
    outcomes: collections.Counter[str] = collections.Counter()
    for broken in mutations(whole, seed=4, count=60):
        file.write_bytes(broken)
        read, error = attempt(lambda: load_released(file).state_dict())
        if read is None:
            assert file.name in error
            outcomes["refused"] += 1
            continue
        assert {k: v.shape for k, v in read.items()} == {k: v.shape for k, v in intact.items()}
        same = all(torch.equal(v, intact[k]) for k, v in read.items())
        assert same or not zipped  # a zip file knows the checksum of its members
        outcomes["same weights" if same else "other weights"] += 1
    print(f"zipped {zipped}: {dict(outcomes)}")
    assert outcomes["refused"]
