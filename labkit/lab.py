"""``python -m labkit.lab``: run the notebooks in order, headless, and say what came out."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

CELL_SECONDS = 3600  # a cell that takes longer is taken for hung


def main() -> int:
    """Execute ``notebooks/NN_*.ipynb`` into ``runs/``; the exit code is the number of notebooks that failed."""
    parser = argparse.ArgumentParser(description="Run the notebooks in order in their quick setting.")
    parser.add_argument("--notebooks", type=Path, default=Path("notebooks"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()

    import papermill
    from papermill.exceptions import PapermillExecutionError

    notebooks = sorted(arguments.notebooks.glob("[0-9]*.ipynb"))
    if not notebooks:
        print(f"no notebooks in {arguments.notebooks}: run this in the folder of the lab", file=sys.stderr)
        return 1
    arguments.runs.mkdir(parents=True, exist_ok=True)
    failed = []
    for number, notebook in enumerate(notebooks, 1):
        print(f"[{number}/{len(notebooks)}] {notebook.name} ...", flush=True)
        started = time.perf_counter()
        try:
            papermill.execute_notebook(
                notebook,
                arguments.runs / notebook.name,
                parameters={"runs": str(arguments.runs.resolve())},
                cwd=str(arguments.notebooks),
                execution_timeout=CELL_SECONDS,
                progress_bar=sys.stderr.isatty(),
            )
        except PapermillExecutionError as error:
            failed.append(notebook.name)
            print(f"      failed in cell {error.exec_count}: {error.ename}: {error.evalue}", file=sys.stderr)
        print(f"      {time.perf_counter() - started:.0f} s", flush=True)
    report(arguments.runs)
    for name in failed:
        print(f"{name} failed; open {arguments.runs / name} to see where", file=sys.stderr)
    return len(failed)


def report(runs: Path) -> None:
    """Print the accuracies that ``03_train`` reached, and what there is to open."""
    for file in sorted(runs.glob("*/result.json")):
        print(f"\nAccuracy on novel classes with its 95 % interval ({file.parent.name}):")
        for name, r in json.loads(file.read_text())["accuracies"].items():
            print(f"  {name:<14} {r['accuracy']:6.2f} ± {r['ci95']:.2f} %  ({r['episodes']} episodes)")
    print("\nTo open:")
    for file in sorted(p for p in runs.rglob("*") if p.suffix in (".ipynb", ".csv", ".png", ".json")):
        print(f"  {file}")


if __name__ == "__main__":
    sys.exit(main())
