"""Run the notebooks, headless, and say what came out: quick ones first, so that there is something to look at soon.

It says first what it will do and how long each part takes on this machine, estimated from a second of work. While a
notebook trains, the steps, the accuracy and the time left are printed. With ``--fast`` nothing is trained: the networks
that come with the lab are evaluated and drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from labkit.common.files import make_folder
from labkit.common.machine import cores

CELL_SECONDS = 3600  # a cell that takes longer is taken for hung
LAST = "03_train"  # trains; everything else is there before it
# With --fast: parameters of the notebooks that would otherwise take longer than a few seconds.
FAST: dict[str, dict[str, Any]] = {
    "03_train": {"weights": "quick", "episodes": 600},
    "06_figure3_sampling": {"live": 2},
    "07_figure4_alignment": {"live": 2},
    "11_limits": {"live_episodes": 4},
    "13_your_method": {"seeds": [0]},
}
# Seconds of each notebook, two at once on two cores (the last alone), where a convolution of `_work` takes
# `WORK_SECONDS`; measured once, scaled by what it takes here.
SECONDS = {
    "00_start": 10,
    "01_episodes": 51,
    "02_meta_filter": 12,
    "03_train": 540,
    "04_table1": 21,
    "05_table2": 13,
    "06_figure3_sampling": 20,
    "07_figure4_alignment": 31,
    "08_explorer": 15,
    "09_paper_and_code": 13,
    "10_speed": 27,
    "11_limits": 42,
    "12_your_images": 14,
    "13_your_method": 74,
}
FAST_SECONDS = {LAST: 36, "06_figure3_sampling": 14, "07_figure4_alignment": 24, "13_your_method": 34}  # with --fast


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``dmf-lab run`` takes."""
    parser.add_argument("--notebooks", type=Path, default=Path("notebooks"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--fast", action="store_true", help="train nothing: the shipped networks, in a few minutes")


def main(given: argparse.Namespace) -> int:
    """Execute ``notebooks/NN_*.ipynb`` into ``runs/``; the exit code is the number of notebooks that failed."""
    notebooks = sorted(given.notebooks.glob("[0-9]*.ipynb"), key=lambda file: (file.stem == LAST, file.name))
    if not notebooks:
        print(f"no notebooks in {given.notebooks}: run this in the folder of the lab", file=sys.stderr)
        return 1
    announce([notebook.stem for notebook in notebooks], given.fast)
    make_folder(given.runs)
    alone = [notebook for notebook in notebooks if notebook.stem == LAST and not given.fast]  # has every core
    failed = []
    with progress_of_training(given.runs):
        for files in ([file for file in notebooks if file not in alone], alone):
            failed += _execute_all(files, given.runs, given.fast)
    report(given.runs)
    for name in failed:
        print(f"{name} failed; open {given.runs / name} to see where", file=sys.stderr)
    return len(failed)


def _at_once(notebooks: int) -> int:
    """How many of so many notebooks are executed at once."""
    return max(1, min(cores(), 4, notebooks))


def _execute_all(notebooks: list[Path], runs: Path, fast: bool) -> list[str]:
    """Execute notebooks, as many at once as there are cores, at most four, and return the names of those that failed.

    A notebook spends most of its time in starting a kernel and in drawing, which use one core.
    """
    at_once, failed = _at_once(len(notebooks)), []
    with ProcessPoolExecutor(at_once, get_context("spawn"), _set_threads, (max(1, cores() // at_once),)) as pool:
        waiting = {}
        for notebook in notebooks:
            parameters = {"runs": str(runs.resolve())} | (FAST.get(notebook.stem, {}) if fast else {})
            bar = at_once == 1 and sys.stderr.isatty()
            waiting[pool.submit(_execute, notebook, runs / notebook.name, parameters, CELL_SECONDS, bar)] = notebook
        for done in as_completed(waiting):
            name, (seconds, fault) = waiting[done].name, done.result()
            if fault:
                failed.append(name)
            print(f"  {seconds:4.0f} s  {runs / name}" + (f"\n      {fault}" if fault else ""), flush=True)
    return failed


def _set_threads(threads: int) -> None:
    """Let the kernels that this process starts use so many cores."""
    os.environ["OMP_NUM_THREADS"] = str(threads)


def _execute(
    notebook: Path, output: Path, parameters: dict[str, Any], cell_seconds: int, bar: bool
) -> tuple[float, str]:
    """Execute one notebook: the seconds that it took, and what went wrong, if anything."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    started, fault = time.perf_counter(), ""
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters=parameters,
            cwd=str(notebook.parent),
            execution_timeout=cell_seconds,
            progress_bar=bar,
        )
    except PapermillExecutionError as error:
        fault = f"failed in cell {error.exec_count}: {error.ename}: {error.evalue}"
    except (CellTimeoutError, DeadKernelError) as error:  # a hung cell, a kernel that ran out of memory
        fault = f"stopped: {error}"
    return time.perf_counter() - started, fault


def announce(names: list[str], fast: bool) -> None:
    """Print what will be run, in which order and about how long it takes on this machine."""
    known = [name for name in names if name in SECONDS]
    if not known:
        return
    pace = _work()
    seconds = {name: pace * (FAST_SECONDS.get(name, SECONDS[name]) if fast else SECONDS[name]) for name in known}
    what = "evaluates the shipped networks" if fast else "trains DMF in the quick setting, last of all"
    print(f"Runs {len(names)} notebooks into runs/ and {what}; on this machine about:")
    for name in known:
        print(f"  {name:<22} {seconds[name]:4.0f} s")
    alone = 0 if fast else seconds.get(LAST, 0)
    together = alone + (sum(seconds.values()) - alone) / _at_once(len(known))
    print(f"  {'together':<22} {together / 60:4.0f} minutes", flush=True)


def _work() -> float:
    """How many times as long as on the machine of `SECONDS` some convolutions take here."""
    import torch

    layer, x = torch.nn.Conv2d(64, 64, 3, padding=1), torch.zeros(16, 64, 40, 40)
    taken = []
    with torch.inference_mode():
        for _ in range(6):
            started = time.perf_counter()
            layer(x)
            taken.append(time.perf_counter() - started)
    return max(0.2, min(taken) / WORK_SECONDS)


WORK_SECONDS = 0.008  # of one such convolution on that machine


@contextmanager
def progress_of_training(runs: Path, every: float = 20.0) -> Iterator[None]:
    """While the block runs, print how far the training is that writes its metrics somewhere in `runs`."""
    done = threading.Event()
    begun = time.time()

    def watch() -> None:
        seen: dict[Path, tuple[float, int]] = {}
        while not done.wait(every):
            for file in runs.glob("*/metrics.jsonl"):
                line = _last_line(file) if file.stat().st_mtime >= begun else None
                if line is None or "step" not in line:
                    continue
                first_time, first_step = seen.setdefault(file, (time.time(), line["step"]))
                if line["step"] > first_step:
                    _say(file, line, (time.time() - first_time) / (line["step"] - first_step))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _say(file: Path, line: Mapping[str, Any], seconds_a_step: float) -> None:
    from labkit.training.settings import PRESETS

    step, name = line["step"], file.parent.name
    reached = f"accuracy {line['accuracy']:.0f} %" if "accuracy" in line else f"validation {line['validation']:.1f} %"
    preset = PRESETS.get(name.rpartition("-seed")[0])
    left = f", {(preset.steps - step) * seconds_a_step / 60:.0f} minutes left" if preset else ""
    print(f"      {name}: step {step}{f' of {preset.steps}' if preset else ''}, {reached}{left}", flush=True)


def _last_line(file: Path) -> dict[str, Any] | None:
    lines = file.read_text(encoding="utf-8").splitlines()
    try:
        found: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):  # nothing yet, or half a line
        return None
    return found


def report(runs: Path) -> None:
    """Print the accuracies that ``03_train`` reached, and what there is to open."""
    for file in sorted(runs.glob("*/result.json")):
        print(f"\nAccuracy on novel classes with its 95 % interval ({file.parent.name}):")
        for name, r in json.loads(file.read_text(encoding="utf-8"))["accuracies"].items():
            print(f"  {name:<14} {r['accuracy']:6.2f} ± {r['ci95']:.2f} %  ({r['episodes']} episodes)")
    print("\nTo open:")
    for file in sorted(p for p in runs.rglob("*") if p.suffix in (".ipynb", ".csv", ".png", ".json")):
        print(f"  {file}")
