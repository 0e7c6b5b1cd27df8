"""The lab without what only some systems have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.common import machine

HIDDEN = """
import os, sys, signal
sys.modules["resource"] = None
for name in ("sched_getaffinity", "posix_fallocate"):
    delattr(os, name) if hasattr(os, name) else None
for name in ("SIGHUP", "SIGQUIT"):
    delattr(signal, name) if hasattr(signal, name) else None
"""


def run(code: str, cache: Path) -> str:
    environment = os.environ | {"LABKIT_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.integration
def test_everything_public_imports_and_glyphs_are_rendered_without_them(tmp_path: Path) -> None:
    code = HIDDEN + (
        "import labkit\n"
        "for name in labkit.__all__: getattr(labkit, name)\n"
        "from labkit.common import machine\n"
        "images = labkit.load_images('glyphs-mini', 'val', size=16, per_class=2, progress=False)\n"
        "print(len(images), machine.peak_memory(), machine.cores() > 0, images.provenance.digest)\n"
    )
    count, memory, cores, digest = run(code, tmp_path / "a").split()
    assert (count, memory, cores) == ("32", "None", "True")
    plain = "import labkit; i = labkit.load_images('glyphs-mini', 'val', size=16, per_class=2, progress=False); "
    assert run(plain + "print(i.provenance.digest)", tmp_path / "b").strip() == digest


def test_importing_the_lab_brings_no_plots_and_no_tables(tmp_path: Path) -> None:
    code = "import sys, labkit; print([m for m in ('pandas', 'matplotlib', 'scipy', 'ot') if m in sys.modules])"
    assert run(code, tmp_path).strip() == "[]"


def test_every_public_name_is_there() -> None:
    import labkit

    assert sorted(labkit.__all__) == sorted(name for name in dir(labkit) if name in labkit.__all__)
    assert all(getattr(labkit, name) for name in labkit.__all__)
    with pytest.raises(AttributeError, match="module 'labkit' has no attribute 'lode_model'; there are"):
        labkit.lode_model  # noqa: B018


def test_macos_counts_memory_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine.peak_memory()
    assert here is not None
    monkeypatch.setattr(sys, "platform", "darwin")
    there = machine.peak_memory()
    assert there is not None
    assert there < here / 500


def test_room_is_asked_for_without_the_system_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    file, content = tmp_path / "file", os.urandom(machine.BLOCK + 5)
    file.write_bytes(content)
    with file.open("r+b") as handle:
        machine.reserve(handle, len(content))
    assert file.read_bytes() == content
