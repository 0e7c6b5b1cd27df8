"""The allow-list: real pickles are read as numpy reads them, hostile ones run nothing and exhaust nothing."""

from __future__ import annotations

import bz2
import collections
import contextlib
import gzip
import lzma
import pickle
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.common.errors import DataError
from labkit.common.safe_pickle import load_pickle
from tests.helpers.hostile_pickles import hostile
from tests.helpers.real_files import python2_pickle, some_pixels

SAMPLE = {
    "data": some_pixels(3, 5),
    "labels": [64, 64, 65],
    "names": ["n01532829", "n0155"],
    "big": np.arange(6, dtype=">i4").reshape(2, 3),
    "words": np.array([b"limpkin", b"owl"]),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype.str[1:] == b.dtype.str[1:] and np.array_equal(a, b)  # numpy may swap bytes as it reads
    if isinstance(a, dict):
        return set(a) == set(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("protocol", [0, 2])
def test_reads_python2_pickles_as_python_does(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "python2.pkl"
    file.write_bytes(python2_pickle(SAMPLE, protocol))
    expected = pickle.loads(file.read_bytes(), encoding="latin1")  # so the writer's format is the real one
    assert same(expected, SAMPLE)
    read = load_pickle(file)
    assert same(read["names"], [name.encode() for name in SAMPLE["names"]])  # type: ignore[attr-defined]
    assert same({**read, "names": SAMPLE["names"]}, SAMPLE)


@pytest.mark.parametrize("protocol", range(6))
def test_reads_python3_pickles(tmp_path: Path, protocol: int) -> None:
    sample = {
        **SAMPLE,
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "unicode": np.array(["é", "owl"]),
        "scalars": [np.int64(3), np.float32(0.5), np.str_("x"), True, None, (1, 2)],
        "ordered": collections.OrderedDict(a=1, b=[2]),
        "shared": [SAMPLE["data"], SAMPLE["data"]],
    }
    file = tmp_path / "python3.pkl"
    file.write_bytes(pickle.dumps(sample, protocol))
    read = load_pickle(file)
    assert same(read, sample)
    assert read["shared"][0] is read["shared"][1]


def test_reads_the_module_names_of_numpy_1_and_2(tmp_path: Path) -> None:
    file = tmp_path / "numpy.pkl"
    new = pickle.dumps(np.arange(3), 2)
    assert b"numpy._core" in new
    for text in (new, new.replace(b"numpy._core", b"numpy.core")):
        file.write_bytes(text)
        assert np.array_equal(load_pickle(file), np.arange(3))


@pytest.mark.parametrize("name", hostile(Path("x")))
def test_refuses_hostile_pickles(tmp_path: Path, name: str) -> None:
    canary, file = tmp_path / "canary", tmp_path / "hostile.pkl"
    text, reason = hostile(canary)[name]
    file.write_bytes(text)
    expected = reason if reason.startswith("truncated") else f"refused, this pickle asks for .*{reason}"
    tracemalloc.start()  # what this read asks for, whatever the process has held before and however busy the machine is
    try:
        with pytest.raises(DataError, match=expected) as refusal:
            load_pickle(file)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000  # bytes; one that hangs ends with pytest's own timeout
    finally:
        tracemalloc.stop()
    assert str(refusal.value).startswith(f"{file}: ")
    assert len(str(refusal.value)) < 500
    assert not canary.exists()


def test_a_dictionary_with_a_default_is_one(tmp_path: Path) -> None:
    for protocol in range(6):
        (tmp_path / "data.pkl").write_bytes(
            pickle.dumps(collections.defaultdict(list, {"a": [1], "b": [2, 3]}), protocol)
        )
        assert load_pickle(tmp_path / "data.pkl") == {"a": [1], "b": [2, 3]}


def test_an_unguarded_read_would_have_run_them(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.loads(hostile(canary)["deep inside"][0])
    assert canary.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lzma.compress(pickle.dumps(SAMPLE)), "packed with xz"),
        (b"PK\x03\x04" + bytes(30), "a zip archive"),
        (b"<!DOCTYPE html><html><title>Quota exceeded", "a web page, not the file; the download failed"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS, not the file"),
    ],
)
def test_what_is_something_else_says_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "data.pkl").write_bytes(content)
    with pytest.raises(DataError, match=rf"data\.pkl: expected a pickle, this file is {said}"):
        load_pickle(tmp_path / "data.pkl")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_packed_pickle_is_read_through_the_same_list(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "data.pkl"
    file.write_bytes(pack(pickle.dumps({"data": np.arange(3000), "labels": [b"a", 2]})))
    found = load_pickle(file)
    assert (found["data"].tolist(), found["labels"]) == (list(range(3000)), [b"a", 2])
    canary = tmp_path / "canary"
    file.write_bytes(pack(hostile(canary)["deep inside"][0]))
    with pytest.raises(DataError, match=r"data\.pkl: refused, this pickle asks for"):
        load_pickle(file)
    assert not canary.exists()
    whole = pack(pickle.dumps(SAMPLE))
    for broken in (whole[:-3], whole[:12], pack(b""), pack(b"nothing")):
        file.write_bytes(broken)
        with pytest.raises(DataError, match=r"data\.pkl: truncated or not a pickle"):
            load_pickle(file)
    file.write_bytes(pack(whole))
    with pytest.raises(DataError, match="expected a packed pickle, what it holds is packed with"):
        load_pickle(file)


def test_no_room_to_unpack_is_said(tmp_path: Path) -> None:
    (tmp_path / "data.pkl").write_bytes(gzip.compress(pickle.dumps(bytes(2**20))))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (2**16, before[1])
    )  # the system refuses a larger file, as a full disk does
    try:
        with pytest.raises(DataError, match=r"data\.pkl: cannot be unpacked in .* free some room, or set \$TMPDIR"):
            load_pickle(tmp_path / "data.pkl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_small_packed_pickle_may_not_become_a_large_one(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "data.pkl").write_bytes(pack(pickle.dumps(bytes(40 * 2**20))))
    with pytest.raises(
        DataError, match=r"data\.pkl: refused, .* more than 16777216 bytes when it is unpacked; unpack it"
    ):
        load_pickle(tmp_path / "data.pkl")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(), text=st.sampled_from([python2_pickle(SAMPLE, 0), python2_pickle(SAMPLE, 2), pickle.dumps(SAMPLE)])
)
def test_broken_pickles_give_an_error_or_data(tmp_path: Path, data: st.DataObject, text: bytes) -> None:
    file = tmp_path / "broken.pkl"
    cut = data.draw(st.integers(0, len(text) - 1))
    file.write_bytes(text[:cut])
    with pytest.raises(DataError, match=r"broken\.pkl: (truncated or not a pickle|refused)"):
        load_pickle(file)
    flipped = bytearray(text)
    flipped[cut] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(flipped)
    with contextlib.suppress(DataError):
        load_pickle(file)
