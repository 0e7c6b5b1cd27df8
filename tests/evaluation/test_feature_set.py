"""Maps that were computed once stand in for their pictures: same episodes, same scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.episodes.augment import Augment
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation import feature_set
from labkit.evaluation.feature_set import FeatureSet, backbone_digest, embed_all
from labkit.evaluation.protocol import evaluate
from labkit.methods.cells import Cells
from labkit.methods.protonet import ProtoNet
from labkit.studies.tables.heads import pooled_once_more
from tests.helpers.toy_maps import toy_maps
from tests.helpers.toys import toy_images

IMAGES = toy_images(6, 12, split="val")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


def model(seed: int = 0) -> DMF:
    torch.manual_seed(seed)
    net = DMF("conv4", groups=4, backbone_options={"width": 16}, classes=6, alignment="closed").eval()
    net.preprocessing = Preprocessing.of(IMAGES)
    return net


def head_of(net: DMF, maps: FeatureSet) -> DMF:
    recipe = net.recipe() | {"backbone": "features", "backbone_options": maps.backbone_options}
    head = DMF(**recipe)
    head.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("backbone.")})
    head.preprocessing = Preprocessing.of(maps)
    return head.eval()


def test_the_same_episodes_are_drawn_and_answered_the_same() -> None:
    net = model()
    maps = embed_all(net, IMAGES, dtype="float32", progress=False)
    a, b = EpisodeSampler(IMAGES, 3, 2, 4, seed=5), EpisodeSampler(maps, 3, 2, 4, seed=5)
    for i in (0, 7):
        shown, read = a[i], b[i]
        assert torch.equal(shown.query_index, read.query_index)
        assert torch.equal(shown.query_labels, read.query_labels)
        with torch.inference_mode():
            torch.testing.assert_close(read.query, net.embed(shown.query), atol=1e-6, rtol=1e-5)
    on_pictures, on_maps = (evaluate(m, s, 3, 1, 5, 30) for m, s in ((net, IMAGES), (head_of(net, maps), maps)))
    np.testing.assert_array_equal(on_pictures.per_episode, on_maps.per_episode)


def test_pictures_that_kept_the_provenance_of_others_get_maps_of_their_own() -> None:
    net = model()
    embed_all(net, IMAGES, progress=False)
    halves = [
        replace(IMAGES, pixels=IMAGES.pixels[k::2], labels=IMAGES.labels[k::2], packed_masks=None) for k in (0, 1)
    ]
    for other in (*halves, replace(IMAGES, pixels=255 - IMAGES.pixels)):
        maps = embed_all(net, other, progress=False)
        np.testing.assert_array_equal(maps.pixels, embed_all(net, other, cache=False, progress=False).pixels)
        assert evaluate(net, other, 3, 1, 2, 2).settings["digest"] == other.digest != IMAGES.digest


def test_half_precision_halves_the_disk_and_hardly_moves_a_map() -> None:
    full, half = (embed_all(model(), IMAGES, dtype=d, progress=False) for d in ("float32", "float16"))
    assert 2 * half.pixels.nbytes == full.pixels.nbytes
    np.testing.assert_allclose(half.pixels.astype(np.float32), full.pixels, rtol=1e-3, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_features_too_large_for_half_precision_are_no_infinities() -> None:
    net = model()
    with torch.no_grad():
        for weight in net.backbone.parameters():
            weight.mul_(100)
    for cache in (True, False):
        with pytest.raises(ValueError, match=r"a feature is .*, and float16 ends at 65504\.0: pass dtype=\"float32\""):
            embed_all(net, IMAGES, cache=cache, progress=False)
    assert np.isfinite(embed_all(net, IMAGES, dtype="float32", progress=False).pixels).all()


def test_maps_are_computed_once_for_weights_and_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    embed = feature_set.embed_pictures
    monkeypatch.setattr(feature_set, "embed_pictures", lambda *a: (calls.append(1), embed(*a))[1])
    first = embed_all(model(), IMAGES, progress=False)
    again = embed_all(model(), IMAGES, progress=False)
    assert len(calls) == 1
    assert isinstance(again.pixels, np.memmap)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    other = embed_all(model(1), IMAGES, progress=False)
    embed_all(model(), replace(IMAGES, pixels=255 - IMAGES.pixels), progress=False)
    assert len(calls) == 3
    assert len({first.provenance.digest, other.provenance.digest, IMAGES.provenance.digest}) == 3
    kept = embed_all(model(), IMAGES, cache=False, progress=False)
    np.testing.assert_array_equal(kept.pixels, first.pixels)
    assert len(calls) == 4


def test_the_digest_is_of_the_backbone_alone() -> None:
    net = model()
    before = backbone_digest(net)
    with torch.no_grad():
        net.filter_conv.weight += 1
    assert backbone_digest(net) == before
    with torch.no_grad():
        net.backbone.layers[1].running_mean += 1
    assert backbone_digest(net) != before


def test_pictures_and_maps_are_not_mistaken_for_each_other() -> None:
    net = model()
    maps = embed_all(net, IMAGES, progress=False)
    with pytest.raises(ValueError, match=r"the model reads pictures, and FeatureSet\('toy', 'val', 72 maps 16 x 3 x 3"):
        evaluate(net, maps, 3, 1, 5, 10)
    with pytest.raises(ValueError, match=r"the model reads feature maps, and ImageSet\('toy'"):
        evaluate(head_of(net, maps), IMAGES, 3, 1, 5, 10)
    with pytest.raises(ValueError, match="the model reads pictures, and FeatureSet"):
        evaluate(net, maps, 3, 1, 5, 10, strict=False)  # which compares other sizes, and cannot compare other kinds
    with pytest.raises(ValueError, match=r"augment changes pictures, and FeatureSet\('toy'.* leave it out"):
        EpisodeSampler(maps, 3, 1, 5, augment=Augment())
    with pytest.raises(ValueError, match="the model was trained on 24 px images"):
        embed_all(net, toy_images(size=32), progress=False)
    with pytest.raises(ValueError, match="dtype must be one of"):
        embed_all(net, IMAGES, dtype="int8")
    with pytest.raises(ValueError, match=r"maps must be float16 or float32 \[72, h, w, c\], got uint8"):
        FeatureSet(IMAGES.pixels, IMAGES.labels, IMAGES.class_names, None, IMAGES.provenance)
    assert isinstance(maps, ImageSet)
    assert len(maps) == 72
    assert maps.size == 24


def test_maps_that_are_kept_know_where_their_cells_lie() -> None:
    plain = embed_all(model(), IMAGES, cache=False)
    assert "first_centre" not in plain.backbone_options  # (stride - 1) / 2, as ever
    wide = DMF("wrn28", groups=4, backbone_options={"depth": 10, "width": 1}, classes=6, alignment="closed").eval()
    wide.preprocessing = Preprocessing.of(IMAGES)
    maps = embed_all(wide, IMAGES, cache=False)
    assert Cells.of(head_of(wide, maps)) == Cells.of(wide) == Cells(4, 0)
    for kept, first in ((plain, 7.5), (maps, 2)):  # the next pooling takes the mean of the first two centres
        again = pooled_once_more(kept)
        assert Cells.of(ProtoNet("features", backbone_options=again.backbone_options)).first == first


def test_the_mean_is_that_of_all_pictures_and_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_set, "AT_ONCE", 5)
    maps = toy_maps()
    torch.testing.assert_close(maps.base.mean(), torch.tensor(maps.base.pixels, dtype=torch.float32).mean((0, 1, 2)))
