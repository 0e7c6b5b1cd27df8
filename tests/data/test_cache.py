"""The cache: made once, whole or not at all, by whoever comes first."""

import errno
import multiprocessing
from pathlib import Path

import pytest

from labkit.common.errors import DataError
from labkit.data import sums, unchanged
from labkit.data.cache import build_once


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    return tmp_path


def write(folder: Path) -> None:
    (folder / "content").write_text("whole")


def refuse(folder: Path) -> None:
    raise AssertionError("built a second time")


def build_slowly(log: str) -> None:
    def build(folder: Path) -> None:
        with Path(log).open("a") as file:
            file.write("x")
        write(folder)

    build_once("shared", {"a": 1}, build)


def test_a_recipe_is_built_once_and_another_recipe_elsewhere() -> None:
    first = build_once("name", {"size": 40}, write)
    assert build_once("name", {"size": 40}, refuse) == first
    assert build_once("name", {"size": 41}, write) != first
    assert (first / "content").read_text() == "whole"


def test_a_build_that_dies_leaves_nothing(cache: Path) -> None:
    def die(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once("name", {}, die)
    assert [p for p in cache.iterdir() if p.is_dir()] == []
    assert (build_once("name", {}, write) / "content").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_files_beside_a_cache_that_cannot_be_written_are_read_without_a_record(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Path:
        raise OSError(number, "cannot be written")

    file = tmp_path / "a.pkl"
    file.write_bytes(b"pictures")
    monkeypatch.setattr(unchanged, "build_once", refuse)
    unchanged.check_unchanged("toy", tmp_path, [file])
    number = errno.ENOSPC  # which says of the disk what its owner should know
    with pytest.raises(OSError, match="cannot be written"):
        unchanged.check_unchanged("toy", tmp_path, [file])


@pytest.mark.integration
def test_two_processes_build_it_once_together(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=build_slowly, args=(str(log),)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert log.read_text() == "x"


def test_a_process_looks_at_the_checksums_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def count(*arguments: object) -> str:
        nonlocal looked
        looked += 1
        return original(*arguments)  # type: ignore[arg-type]

    original = sums.sums_of
    monkeypatch.setattr(sums, "sums_of", count)
    folder = build_once("name", {}, write)  # which digests what it wrote
    for _ in range(3):
        build_once("name", {}, refuse)
    assert looked == 2
    (folder / "content").write_text("wrong")
    for _ in range(2):
        with pytest.raises(DataError, match=r"content: damaged since it was written, .*delete the folder"):
            build_once("name", {}, refuse)
    (folder / "more").write_text("")
    with pytest.raises(DataError):
        build_once("name", {}, refuse)


@pytest.mark.parametrize("left", [[], ["content", "recipe.json"]])
def test_a_cache_that_somebody_deleted_files_of_is_made_anew(left: list[str]) -> None:
    folder = build_once("name", {}, write)
    for file in folder.iterdir():
        if file.name in left:
            file.write_text("damaged")
        else:
            file.unlink()
    assert build_once("name", {}, write) == folder
    assert (folder / "content").read_text() == "whole"
    assert sorted(file.name for file in folder.iterdir()) == [sums.SUMS, "content", "recipe.json"]


def test_what_is_missing_or_foreign_is_called_so_and_others_may_read(cache: Path) -> None:
    folder = build_once("name", {}, write)
    assert folder.stat().st_mode & 0o777 == 0o755
    (folder / "@eaDir").mkdir()
    assert build_once("name", {}, refuse) == folder
    (folder / "Thumbs.db").write_text("x")
    with pytest.raises(DataError, match=r"Thumbs.db: does not belong into this cache; delete the folder"):
        build_once("name", {}, refuse)
    (folder / "Thumbs.db").unlink()
    (folder / "content").unlink()
    with pytest.raises(DataError, match=r"content: missing from this cache; delete the folder"):
        build_once("name", {}, refuse)
