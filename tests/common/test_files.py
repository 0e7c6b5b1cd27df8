"""Writing, where disk, signal or another process is against it: a sentence or a wait, and what was there stays."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import labkit
from labkit.common.errors import DataError
from labkit.common.files import (
    append,
    exclusive,
    expanded,
    make_folder,
    read_json,
    read_lines,
    write_atomically,
    write_json,
)
from labkit.data.cache import build_once
from labkit.data.glyphs import load as glyphs
from labkit.training.checkpoints import load_state
from labkit.training.loop import train
from tests.helpers.tiny import BASE, TINY, VALIDATION

FORK = multiprocessing.get_context("fork")
NOBODY = 65534
SAID = {
    "full": "there is no room left on the disk, free some",
    "limited": "the file would be larger than is allowed, raise the limit",
    "read-only": "the file system is read-only, write to another one",
    "forbidden": "there is no permission to write there, ask for it, or write to another folder",
}


class Disk:
    """A folder whose writes are refused from `refuse` to `relent`, by the operating system itself."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp())
        self.folder.chmod(0o755)  # another user must get as far as this folder
        self.mounted = kind in ("full", "read-only") and self._mount("-t", "tmpfs", "-o", "size=3m", "tmpfs")
        if kind in ("full", "read-only") and not self.mounted:
            self.folder.rmdir()
            pytest.skip("mounting is not allowed here; 'limited' and 'forbidden' are refused without it")
        self.work = self.folder / "work"
        self.work.mkdir()

    def _mount(self, *options: str) -> bool:
        return subprocess.run(["mount", *options, str(self.folder)], capture_output=True).returncode == 0

    def refuse(self) -> None:
        if self.kind == "full":
            with (
                (self.folder / "filler").open("wb", buffering=0) as filler,
                pytest.raises(OSError, match="No space left"),
            ):
                filler.writelines(bytes(4096) for _ in range(10_000))
        elif self.kind == "limited":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        elif self.kind == "read-only":
            assert self._mount("-o", "remount,ro")
        else:
            for folder in (self.work, *(p for p in self.work.rglob("*") if p.is_dir())):
                folder.chmod(0o555)
            if os.geteuid() == 0:  # whom no permission stops
                os.seteuid(NOBODY)

    def relent(self) -> None:
        if self.kind == "full":
            (self.folder / "filler").unlink(missing_ok=True)
        elif self.kind == "limited":
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        elif self.kind == "read-only":
            assert self._mount("-o", "remount,rw")
        else:
            os.seteuid(os.getuid())
            for folder in (self.work, *(p for p in self.work.rglob("*") if p.is_dir())):
                folder.chmod(0o755)

    def remove(self) -> None:
        self.relent()
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)
        shutil.rmtree(self.folder)


@pytest.fixture(params=SAID)
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    disk = Disk(request.param)
    try:
        yield disk
    finally:
        disk.remove()


def test_a_refused_write_says_why_and_leaves_the_old_file(disk: Disk) -> None:
    file = disk.work / "kept"
    write_atomically(file, b"old")
    disk.refuse()
    with pytest.raises(OSError, match=f"kept cannot be written: {SAID[disk.kind]}; what was there before is untouched"):
        write_atomically(file, b"new" * 100)
    disk.relent()
    assert file.read_bytes() == b"old"
    assert [p.name for p in disk.work.iterdir()] == ["kept"]


def test_a_folder_that_cannot_be_made_says_why(disk: Disk) -> None:
    if disk.kind not in ("read-only", "forbidden"):
        pytest.skip("an empty folder takes no room")
    make_folder(disk.work / "a" / "b")
    make_folder(disk.work / "a" / "b")
    disk.refuse()
    make_folder(disk.work / "a" / "b")  # it is there
    with pytest.raises(OSError, match=f"c/d cannot be written: {SAID[disk.kind]}; what was there before is untouched"):
        make_folder(disk.work / "c" / "d")


@pytest.mark.integration
def test_a_refused_checkpoint_stops_training_which_goes_on_to_the_same_bits(disk: Disk, tmp_path: Path) -> None:
    whole = train(TINY, BASE, VALIDATION, tmp_path, progress=False)
    run = disk.work / "run"
    train(TINY, BASE, VALIDATION, run, until=6, progress=False)
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    disk.refuse()
    with pytest.raises(OSError, match=rf"run\S* cannot be written: {SAID[disk.kind]}"):
        train(TINY, BASE, VALIDATION, run, progress=False)
    disk.relent()
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before
    parts = train(TINY, BASE, VALIDATION, run, progress=False)
    assert parts.metrics == whole.metrics
    a, b = (load_state(folder / "last.pt")["model"] for folder in (tmp_path, run))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_refused_cache_is_no_cache_and_the_others_are_still_read(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(disk.work))

    def load(per_class: int) -> str:
        images = labkit.load_images("glyphs-mini", "val", size=16, per_class=per_class, progress=False)
        return images.provenance.digest

    first = load(2)
    before = {p.name for p in disk.work.iterdir()}
    disk.refuse()
    assert load(2) == first
    said = rf"glyphs-mini-val-16-\w+ cannot be written: {SAID[disk.kind]}, or set \$LABKIT_CACHE to another folder"
    with pytest.raises(OSError, match=said):
        load(3)
    disk.relent()
    assert {p.name for p in disk.work.iterdir() if p.suffix != ".lock"} <= before
    assert load(3) != load(2) == first


def test_another_error_keeps_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kept"
    write_atomically(file, b"old")

    def fail(*_: object) -> None:
        raise OSError("the disk is on fire")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match=r"^the disk is on fire$"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_source_that_may_not_be_read_is_not_called_a_cache_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))

    def unreadable(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/images.pkl")

    with pytest.raises(PermissionError, match=r"Permission denied: '/elsewhere/images\.pkl'$"):
        build_once("name", {}, unreadable)


def write_often(file: Path, number: int) -> None:
    for _ in range(60):
        write_atomically(file, json.dumps([number] * 20_000).encode())


@pytest.mark.integration
def test_two_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    write_atomically(file, b"[0]")
    writers = [FORK.Process(target=write_often, args=(file, n)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        (number,) = set(json.loads(file.read_bytes()))
        seen.add(number)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert {1, 2} & seen
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def build_and_wait(ready: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "content").write_text("ha")
        ready.touch()
        time.sleep(300)

    build_once("name", {}, build)


def build_at_once() -> None:
    build_once("name", {}, lambda folder: (folder / "content").write_text("whole"))  # type: ignore[arg-type,return-value]


def until(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.integration
def test_who_waits_for_a_builder_that_is_killed_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    first = FORK.Process(target=build_and_wait, args=(tmp_path / "ready",))
    first.start()
    until(tmp_path / "ready")
    second = FORK.Process(target=build_at_once)
    second.start()
    second.join(0.5)
    assert second.is_alive()  # it waits
    os.kill(first.pid or 0, signal.SIGKILL)
    second.join(60)
    first.join()
    assert second.exitcode == 0
    (folder,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())  # and the half-built one is gone
    assert (folder / "content").read_text() == "whole"


def render_and_count(counts: multiprocessing.Queue[int]) -> None:
    render, calls = glyphs.render, []
    glyphs.render = lambda *a, **k: calls.append(1) or render(*a, **k)  # type: ignore[assignment,func-returns-value]
    labkit.load_images("glyphs-mini", "val", size=16, per_class=5, progress=False)
    counts.put(len(calls))


@pytest.mark.integration
def test_two_processes_that_render_the_same_images_render_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    glyphs.check_release()  # draws a sample of its own, once a process
    counts: multiprocessing.Queue[int] = FORK.Queue()
    both = [FORK.Process(target=render_and_count, args=(counts,)) for _ in range(2)]
    for process in both:
        process.start()
    assert sorted(counts.get(timeout=120) for _ in both) == [0, 16 * 5]
    for process in both:
        process.join()
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_atomically("~/sub/a.txt", b"a")
    append("~/sub/a.txt", b"b")
    with exclusive("~/sub", []):
        pass
    assert (tmp_path / "sub" / "a.txt").read_bytes() == b"ab"
    assert not (tmp_path / "~").exists()
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


def test_a_damaged_line_is_named_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n<<<<<<< mine\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2 is damaged \(.+\); bring it back"):
        read_lines(file, "bring it back")
    file.write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(ValueError, match="line 2 is damaged"):
        read_lines(file, "")
    file.write_text('{"a": 1}\n')
    assert read_lines(file, "") == [{"a": 1}]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff"])
def test_json_that_is_damaged_is_named_with_what_to_do(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    assert read_json(file) == {"a": 1}
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is damaged \(.+\); delete it, and it is made anew"):
        read_json(file)
    with pytest.raises(ValueError, match="; copy it again"):
        read_json(file, "copy it again")


def test_names_that_are_not_utf8_are_written_and_named(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    write_atomically(path, b"a")
    assert path.read_bytes() == b"a"
    with pytest.raises(OSError, match=r"caf\\udce9/x cannot be written: a file is where a folder should be") as refused:
        write_atomically(path / "x", b"")
    str(refused.value).encode()
    error = DataError(f"{path}: wrong")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == f"{tmp_path}/caf\\udce9: wrong"
