"""Train what Table 1 or 2 lacks, or add what is finished to the lab's results.

dmf-lab table 2 ../runs/tables --shots 1        every cell with three seeds; start it again to go on
dmf-lab table 2 ../runs/tables --cells dmf "align 0" --shots 1 --seeds 3 4      more seeds where a claim is undecided
dmf-lab table 1 ../runs/tables --shots 5 --seeds 0 --settings-of 1              only what was chosen at one shot
dmf-lab table 1 ../runs/tables --gather         what is finished, into the lab's results
"""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.studies.tables import train_cells
from labkit.studies.tables.cells import CELLS


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``dmf-lab table`` takes."""
    parser.add_argument("table", type=int, choices=(1, 2))
    parser.add_argument("folder", type=Path, help="of the sweep; finished trainings are kept there")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(train_cells.SEEDS))
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), metavar="CELL", help="of Table 2, instead of all")
    parser.add_argument("--settings-of", type=int, metavar="K", help="of Table 1: only what was chosen at K shots")
    parser.add_argument("--engine", default="local", help="local or ray")
    parser.add_argument("--address", help="of a Ray cluster")
    parser.add_argument("--workers", type=int, help="runs at once")
    parser.add_argument(
        "--gather", action="store_true", help="train nothing: add what is finished to the lab's results"
    )


def main(given: argparse.Namespace) -> int:
    """Train, or gather."""
    if given.gather:
        train_cells.gather(given.folder)
        return 0
    cells = None if given.cells is None else [CELLS[name] for name in given.cells]
    how = {"address": given.address, "workers": given.workers}
    train_cells.fill(given.folder, given.table, given.shots, given.seeds, given.engine, cells, given.settings_of, **how)
    return 0
