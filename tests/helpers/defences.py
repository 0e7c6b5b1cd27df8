"""``python -m tests.helpers.defences [WORD ...]``: takes each defence away in a copy of the project:
a test must fail.

By hand, some minutes: nothing here runs in ``make test``. A defence is a piece of the code and what would stand in
its place if nobody had thought of it.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Imported once, before the processes that try a defence each part from this one.
import h5py  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import pandas  # noqa: F401
import PIL.Image  # noqa: F401
import pytest
import safetensors.torch  # noqa: F401
import torchdiffeq  # noqa: F401
import torchvision  # noqa: F401
from _pytest.mark.expression import Expression

PROJECT = Path(__file__).parents[2]
HOSTILE, BROKEN = "tests/promises/test_hostile_files.py", "tests/promises/test_broken_files.py"


@dataclass(frozen=True)
class Defence:
    """`code` in `file` gives way to `without`; of `tests`, those that match the expression `which` must notice."""

    what: str
    file: str
    code: str
    without: str
    which: str
    tests: str = HOSTILE


PICKLE, TORCH, OURS = "labkit/common/safe_pickle.py", "labkit/common/torch_files.py", "labkit/models/checkpoints.py"
HDF5, NPZ, DECODE = "labkit/data/hdf5.py", "labkit/data/tieredimagenet.py", "labkit/data/decode.py"
FOLDERS, FIELDS, SUMS = "labkit/data/folders.py", "labkit/data/fields.py", "labkit/data/sums.py"
TABLES, STATE = "labkit/data/csv_table.py", "labkit/training/checkpoints.py"

DEFENCES = [
    # Data pickles
    Defence("pickle: names are looked up in a list", PICKLE,
            '            raise Refused(f"{module[:80]}.{name[:80]}")',
            "            return super().find_class(module, name)", "pickle"),
    Defence("pickle: an array's shape fits its bytes", PICKLE,
            "    if math.prod(shape) * dtype.dtype.itemsize != len(raw):", "    if False:", "pickle and 100"),
    Defence("pickle: dtypes are numbers and strings", PICKLE, 'if not re.fullmatch(r"[biufSU][1-9]\\d{0,4}", name):',
            "if False:", "pickle and objects"),
    Defence("pickle: keys are str or int", PICKLE, "        if not isinstance(key, str | int):\n            raise",
            "        if False:\n            raise", "pickle and hash"),
    Defence("pickle: text is never made by str()", PICKLE, "    if not isinstance(value, str | bytes):",
            "    if False:", "pickle and print"),
    Defence("pickle: calls add up what they are given", PICKLE, "        if self.allowance < 0:",
            "        if False:", "pickle and copied"),
    Defence("pickle: one codec", PICKLE, '    if _text(encoding) not in ("latin1", "latin-1"):', "    if False:",
            "pickle and codec"),
    Defence("pickle: state is for arrays and dtypes", PICKLE,
            "        if not isinstance(self.stack[-1], _Array | _Dtype):", "        if False:", "pickle and state"),
    Defence("pickle: no instance, set or outside reference", PICKLE,
            "        **dict.fromkeys(_NEEDLESS, load_needless),\n", "",
            "pickle and (INST or NEWOBJ or persistent or copyreg)"),
    Defence("pickle: Python's unpickler, not the one in C", PICKLE, "class Reader(pickle._Unpickler):",
            "class Reader(pickle.Unpickler):", "pickle and memo"),
    # Checkpoints of torch
    Defence("torch: our reader, not torch's restricted one", "labkit/dmf/authors_checkpoint.py",
            "read_torch(content, file)", "torch.load(file, map_location='cpu', weights_only=True)",
            "checkpoint"),
    Defence("torch: our reader, for a training's state", STATE, "    return read_torch(content, path)",
            "    return torch.load(io.BytesIO(content), weights_only=False)", "checkpoint and sealed"),
    Defence("torch: storages together no longer than the file", TORCH, "            if self.room < 0:",
            "            if False:", "checkpoint and storage"),
    Defence("torch: members no longer than the file", TORCH, "if archive.getinfo(name).file_size > len(content):",
            "if False:", "checkpoint and packed"),
    Defence("torch: tensors lie within their storage", TORCH, "last >= len(storage.content)", "False",
            "checkpoint and foreign"),
    Defence("torch: no more elements than the storage has", TORCH, "math.prod(size) > len(storage.content) or", "",
            "checkpoint and spread"),
    Defence("torch: a storage is a name, a type and a length", TORCH, "if not (isinstance(key, str) and",
            "if False and (isinstance(key, str) and", "nameless", "tests/common/test_torch_files.py"),
    Defence("torch: as many bytes as the storage needs", TORCH, "        if len(raw) != self.content.nbytes:",
            "        if False:", "shorter", "tests/common/test_torch_files.py"),
    Defence(
        "released: only a file",
        "labkit/dmf/authors_checkpoint.py",
        "    if not is_file(file):",
        "    if not file.exists():",
            "pipe"),
    # Models of ours
    Defence("ours: no memory before shapes fit", OURS, "with shapes_only():", "with contextlib.nullcontext():",
            "network"),
    Defence("ours: methods are looked up in a list", OURS,
            "    if not isinstance(name, str) or name not in METHODS:", "    if False:", "method"),
    Defence("ours: alignments end", "labkit/dmf/alignment.py", "<= MOST_STEPS", "<= 10**12", "alignment"),
    Defence("ours: images have a largest size", "labkit/episodes/preprocessing.py",
            "type(self.size) is not int or not 1 <= self.size <= MAX_SIZE", "False", "pixels and side"),
    Defence("ours: any error of a recipe names the file", OURS, "    except Exception as error:  # a wrong recipe",
            "    except RuntimeError as error:  # a wrong recipe", "safetensors"),
    Defence("ours: deep headers are an error like others", OURS, "AttributeError, RecursionError)",
            "AttributeError)", "safetensors and deep"),
    Defence("ours: models carry a checksum", OURS, "hexdigest() != digest:", "hexdigest() == 0:", "checkpoints",
            BROKEN),
    Defence("ours: a header has no other keys", OURS,
            "        if header.keys() != HEADER:",
            "        if False:", "flipped", "tests/models/test_checkpoints.py"),
    Defence("ours: a training's state carries a checksum", STATE,
            '    if seal != struct.pack("<H", LENGTH) + _seal(content):', "    if False:",
            "checkpoints and training", BROKEN),
    # Archives and HDF5
    Defence("images have a largest number and size", FIELDS,
            "    if shape[0] > MAX_IMAGES or not all(0 < side <= MAX_SIDE for side in shape[1:3]):", "    if False:",
            "HDF5 and rows or npz and rows"),
    Defence("images are bytes, not objects", FIELDS, "    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:",
            "    if False:", "pickles or fixed"),
    Defence("npz: ends after its images", NPZ, "            if member.read(1):", "            if False:",
            "bomb"),
    Defence("npz: streamed, not loaded", NPZ, "        with zipfile.ZipFile(file) as archive, archive",
            "        np.load(file, None, True)['images']\n        with zipfile.ZipFile(file) as archive, archive",
            "npz"),
    Defence("HDF5: no links", HDF5, ' or not isinstance(group.get(name, getlink=True), h5py.HardLink)', "", "link"),
    Defence("HDF5: no other files", HDF5, "    if dataset.external is not None or dataset.is_virtual:",
            "    if False:", "another or virtual"),
    Defence("HDF5: the data is there", HDF5, "    if not complete:", "    if False:", "without"),
    Defence("HDF5: chunks are small", HDF5, "        if math.prod(dataset.chunks) > MAX_HDF5_CHUNK:",
            "        if False:", "chunks"),
    Defence("HDF5: pictures that rows share are not copied without end", HDF5, "if allowance < 0:", "if False:",
            "share", "tests/data/test_tieredimagenet.py"),
    Defence("HDF5: a class is a dataset", HDF5, "    if not isinstance(member, kind):", "    if False:", "group"),
    Defence("JSON: deep lists are an error like others", HDF5, "(OSError, ValueError, RecursionError)",
            "(OSError, ValueError)", "JSON"),
    # Pictures
    Defence("pictures: formats that decode in-process", DECODE, "else file, formats=FORMATS)", "else file)",
            "PostScript"),
    Defence("pictures: a largest number of pixels", DECODE, "        if pixels > MAX_PIXELS:", "        if False:",
            "picture"),
    Defence("pictures: no pipes", DECODE, "not is_file(Path(file))", "not Path(file).exists()", "picture and pipe"),
    Defence("pictures: large ones one at a time", DECODE, "_large if pixels > MANY_PIXELS else nullcontext()",
            "nullcontext()", "one_at_a_time"),
    # Paths
    Defence("paths: no ..", FOLDERS, '        if ".." in name.replace("\\\\", "/").split("/"):', "        if False:",
            "CSV and up"),
    Defence("paths: inside the root, links followed", FOLDERS, "    if not real.is_relative_to(root):",
            "    if False:", "CSV or link"),
    Defence("paths: links in a circle", FOLDERS, "    except (OSError, RuntimeError) as error:  # RuntimeError",
            "    except ZeroDivisionError as error:  # RuntimeError", "circle"),
    Defence("paths: a table names files", TABLES, "        if is_file(folder / spelling):",
            "        if (folder / spelling).exists():", "CSV and pipe or letters or zero"),
    Defence("paths: the table is a file", TABLES, "    if not is_file(table):", "    if False:", "itself"),
    Defence("paths: lines have an end", TABLES, "    except csv.Error as error:",
            "    except ZeroDivisionError as error:", "line"),
    Defence("paths: images are files", FOLDERS, "            if entry.is_file():\n",
            "            if True:\n", "no_image", "tests/data/test_folders.py"),
    # Checksums
    Defence("caches carry checksums", SUMS, "    if recorded != found:", "    if False:", "caches", BROKEN),
    Defence("files are compared with their first reading", "labkit/data/unchanged.py",
            "        if not changed:", "        if True:", "second", BROKEN),
]  # fmt: skip


def attempt(defence: Defence, copy: Path) -> None:
    """In a process of its own: exits with 1 where a test fails, and 0 where none does."""
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    for name in [name for name in sys.modules if name.split(".")[0] in ("labkit", "tests")]:
        del sys.modules[name]
    if defence.tests != HOSTILE or "one_at_a_time" in defence.which:
        sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *defence.tests.split(), "-k", defence.which]))
    from tests.helpers.hostile import cases, run  # of the copy

    run.limit()
    which = Expression.compile(defence.which)
    chosen = [name for name in cases.CASES if which.evaluate(lambda word, name=name: word.lower() in name.lower())]
    assert chosen
    for name in chosen:
        if found := cases.faults(cases.CASES[name], run.attempt(name)):
            print(name, found[0][:160], flush=True)
            sys.exit(1)


def main(words: list[str]) -> int:
    """How many defences nobody missed."""
    chosen = [d for d in DEFENCES if not words or any(word in d.what for word in words)]
    unnoticed = []
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        left_out = shutil.ignore_patterns(".git", ".venv", "runs", "notebooks", "__pycache__")
        shutil.copytree(PROJECT, copy, ignore=left_out)
        for defence in chosen:
            file = copy / defence.file
            whole = file.read_text()
            if whole.count(defence.code) != 1:
                raise SystemExit(f"{defence.what}: its code is {whole.count(defence.code)} times in {defence.file}")
            file.write_text(whole.replace(defence.code, defence.without))
            process = multiprocessing.get_context("fork").Process(target=attempt, args=(defence, copy))
            process.start()
            process.join()  # who hangs is killed by the alarm of `tests.helpers.hostile.run`
            file.write_text(whole)
            noticed = process.exitcode == 1 or (process.exitcode or 0) < 0
            print(f"{'noticed' if noticed else 'NOT NOTICED'} ({process.exitcode}): {defence.what}", flush=True)
            if not noticed:
                unnoticed.append(defence.what)
    print(f"{len(chosen) - len(unnoticed)} of {len(chosen)} noticed; not: {unnoticed}")
    return len(unnoticed)


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # edits of one second and one length would be taken for the same file
    sys.exit(main(sys.argv[1:]))
