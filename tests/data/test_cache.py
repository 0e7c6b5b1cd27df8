"""The cache: made once, whole or not at all, by whoever comes first."""

import multiprocessing
from pathlib import Path

import pytest

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
