"""Run the notebooks in order, headless, in their quick setting, and say what came out."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.common.files import write_atomically
from labkit.common.versions import versions

if TYPE_CHECKING:  # slow to import
    import pandas as pd

    from labkit.evaluation.protocol import Result

CELL_SECONDS = 3600  # a cell that takes longer is taken for hung


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``dmf-lab run`` takes."""
    parser.add_argument("--notebooks", type=Path, default=Path("notebooks"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))


def main(given: argparse.Namespace) -> int:
    """Execute ``notebooks/NN_*.ipynb`` into ``runs/``; the exit code is the number of notebooks that failed."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    notebooks = sorted(given.notebooks.glob("[0-9]*.ipynb"))
    if not notebooks:
        print(f"no notebooks in {given.notebooks}: run this in the folder of the lab", file=sys.stderr)
        return 1
    given.runs.mkdir(parents=True, exist_ok=True)
    failed = []
    for number, notebook in enumerate(notebooks, 1):
        print(f"[{number}/{len(notebooks)}] {notebook.name} ...", flush=True)
        started = time.perf_counter()
        try:
            papermill.execute_notebook(
                notebook,
                given.runs / notebook.name,
                parameters={"runs": str(given.runs.resolve())},
                cwd=str(given.notebooks),
                execution_timeout=CELL_SECONDS,
                progress_bar=sys.stderr.isatty(),
            )
        except PapermillExecutionError as error:
            failed.append(notebook.name)
            print(f"      failed in cell {error.exec_count}: {error.ename}: {error.evalue}", file=sys.stderr)
        except (CellTimeoutError, DeadKernelError) as error:  # a hung cell, a kernel that ran out of memory
            failed.append(notebook.name)
            print(f"      stopped: {error}", file=sys.stderr)
        print(f"      {time.perf_counter() - started:.0f} s", flush=True)
    report(given.runs)
    for name in failed:
        print(f"{name} failed; open {given.runs / name} to see where", file=sys.stderr)
    return len(failed)


def keep(folder: Path, results: Mapping[str, Result], **about: Any) -> pd.DataFrame:
    """Write ``result.json`` and ``accuracies.csv`` of a run, with what it was computed with; the table of the second.

    Args:
        folder: of the run.
        results: by the name of what was evaluated.
        about: more to be kept in ``result.json``, in JSON types: experiment, seed, validation accuracy.
    """
    import pandas as pd

    summary = {"accuracies": {name: r.summary() for name, r in results.items()}, **about, "versions": versions()}
    write_atomically(folder / "result.json", json.dumps(summary, indent=1).encode())
    table = pd.DataFrame(summary["accuracies"]).T[["accuracy", "ci95", "class_interval", "episodes"]]
    write_atomically(folder / "accuracies.csv", table.to_csv().encode())
    return table


def report(runs: Path) -> None:
    """Print the accuracies that ``03_train`` reached, and what there is to open."""
    for file in sorted(runs.glob("*/result.json")):
        print(f"\nAccuracy on novel classes with its 95 % interval ({file.parent.name}):")
        for name, r in json.loads(file.read_text())["accuracies"].items():
            print(f"  {name:<14} {r['accuracy']:6.2f} ± {r['ci95']:.2f} %  ({r['episodes']} episodes)")
    print("\nTo open:")
    for file in sorted(p for p in runs.rglob("*") if p.suffix in (".ipynb", ".csv", ".png", ".json")):
        print(f"  {file}")
