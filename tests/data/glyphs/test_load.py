"""Loading: the order of the images, the cache, the pool of processes, and what is reported."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray

from labkit.data.glyphs import load as glyphs
from labkit.data.glyphs.classes import font_digests, read_table
from labkit.data.glyphs.load import DEFAULT, classes_of, load_glyphs, render

MADE_WITH_PILLOW = "13.0.0"


@pytest.mark.integration
def test_another_process_renders_the_same():
    code = "from labkit.data.glyphs.load import sample_digest; print(sample_digest())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == glyphs.sample_digest()


@pytest.mark.skipif(PIL.__version__ != MADE_WITH_PILLOW, reason="another Pillow may round otherwise; the loader warns")
@pytest.mark.skipif(font_digests() != read_table()[1], reason="matplotlib ships other fonts; the loader warns")
def test_the_rendered_sample_has_not_changed():
    assert glyphs.sample_digest() == glyphs.SAMPLE_DIGEST


def load(per_class: int = 3, **changes: object) -> glyphs.ImageSet:
    return load_glyphs("glyphs-mini", "val", **{"size": 24, "per_class": per_class, "progress": False} | changes)


def test_images_lie_in_order_of_class_and_index():
    images = load()
    classes = classes_of("glyphs-mini", "val")
    assert len(images) == 3 * 16
    assert images.size == 24
    assert images.class_names == tuple(row.name for row in classes)
    assert images.categories == tuple(row.category for row in classes)
    assert images.provenance.layout == "rendered"
    assert images.provenance.source_size == "24x24"
    assert images.provenance.details["difficulty"]["object_size"] == list(DEFAULT.object_size)
    for place in (0, 4, 47):
        pixels, mask = render(classes[place // 3], place % 3, size=24, seed=0)
        assert images.labels[place] == place // 3
        np.testing.assert_array_equal(images.pixels[place], pixels)
        np.testing.assert_array_equal(images.masks(place).numpy(), mask)


def test_integers_of_numpy_are_integers():
    images = load(np.int64(2), size=np.int32(24), seed=np.uint8(0))
    assert images.provenance == load(2).provenance
    row = classes_of("glyphs-mini", "val")[0]
    plain, numpys = render(row, 3, size=24, seed=2)[0], render(row, np.int64(3), size=24, seed=np.int64(2))[0]
    np.testing.assert_array_equal(plain, numpys)


def test_a_system_without_posix_fallocate_renders_the_same(monkeypatch, own_cache):
    pixels = np.array(load(1).pixels)
    shutil.rmtree(own_cache)
    monkeypatch.delattr("os.posix_fallocate")
    np.testing.assert_array_equal(load(1).pixels, pixels)


def test_more_images_a_class_keep_the_first_ones():
    few, many = load(2), load(5)
    np.testing.assert_array_equal(few.pixels[2:4], many.pixels[5:7])


def test_a_pool_of_processes_renders_the_same(monkeypatch):
    alone = load()
    monkeypatch.setattr(glyphs, "PARALLEL_FROM", 1)
    pooled = load(4)
    np.testing.assert_array_equal(
        pooled.pixels.reshape(16, 4, 24, 24, 3)[:, :3], alone.pixels.reshape(16, 3, 24, 24, 3)
    )


def test_the_second_time_nothing_is_rendered(monkeypatch):
    first = load()

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr(glyphs, "render", never)
    assert load().provenance == first.provenance
    with pytest.raises(AssertionError, match="rendered again"):
        load(seed=1)


def test_a_rendering_that_breaks_off_leaves_no_cache(monkeypatch, own_cache):
    calls = []

    def break_off(*args: object, **kwargs: object) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        calls.append(args)
        if len(calls) > 10:
            raise KeyboardInterrupt
        return render(*args, **kwargs)

    glyphs.check_release()
    with monkeypatch.context() as patched:
        patched.setattr(glyphs, "render", break_off)
        with pytest.raises(KeyboardInterrupt):
            load()
    assert [file for file in own_cache.iterdir() if file.is_dir()] == []
    assert len(load()) == 48


def test_tiered_has_categories_of_its_own_in_every_split_and_a_cache_of_3_gb():
    loaded = {s: load_glyphs("glyphs-tiered", s, size=16, per_class=1, progress=False) for s in glyphs.SPLITS}
    assert [len(loaded[s].class_names) for s in glyphs.SPLITS] == [351, 97, 160]
    categories = [set(loaded[s].categories or ()) for s in glyphs.SPLITS]
    assert [len(c) for c in categories] == [20, 6, 8]
    assert len(set.union(*categories)) == 34
    assert glyphs._tiered_per_class(84) == 223
    assert 608 * 223 * (3 * 84 * 84 + 84 * 11 + 8) < 3e9
    assert glyphs._tiered_per_class(40) == 600


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "glyphs-huge"}, "glyphs-mini, glyphs-tiered"),
        ({"split": "novel"}, "train, val, test"),
        ({"size": 15}, "size must be from 16 to 1024, got 15"),
        ({"per_class": 0}, "per_class must be at least 1, got 0"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_bad_arguments_say_what_there_is(changes, message):
    with pytest.raises(ValueError, match=message):
        load_glyphs(**({"name": "glyphs-mini", "split": "val", "progress": False} | changes))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SAMPLE_DIGEST", "0" * 16, f"Pillow {PIL.__version__} renders the sample"),
        ("font_digests", lambda: font_digests() | {"STIXGeneral": "0"}, "other releases of STIXGeneral"),
    ],
)
def test_another_pillow_or_font_release_is_reported(monkeypatch, name, value, message):
    monkeypatch.setattr(glyphs, name, value)
    glyphs.check_release.cache_clear()
    try:
        with pytest.warns(UserWarning, match=message):
            load(per_class=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(per_class=1)  # said once a process
    finally:
        glyphs.check_release.cache_clear()


@pytest.mark.integration
def test_a_script_without_a_main_guard_may_load_a_large_set(tmp_path):
    script = tmp_path / "naive.py"
    script.write_text(
        "print('started')\n"
        "from labkit.data.glyphs.load import load_glyphs\n"
        "print(len(load_glyphs('glyphs-mini', 'val', size=16, per_class=150, progress=False)))\n"
    )
    out = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True)
    assert out.stdout.split() == ["started", "2400"]
