"""Measure what a figure of the paper, or a study of the lab, shows, and write it into the lab's results."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

# Module of `labkit.studies` with a function `run`, and what it measures.
FIGURES = {
    "3": ("figure3_sampling", "do the sampled points of Figure 3 lie on the object?"),
    "4": ("figure4_heat", "does alignment bring the query's object out, as in Figure 4?"),
    "displacement": ("displacement.measure", "accuracy against displacement, clutter and contrast"),
    "solvers": ("solvers", "what the ODE buys, solver by solver"),
    "paper-vs-code": ("paper_vs_code", "train the paper's setting, the released one and every difference"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``dmf-lab figure`` takes."""
    kinds = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    of = {name: kinds.add_parser(name, help=what, description=what) for name, (_, what) in FIGURES.items()}
    for name in ("3", "4", "displacement", "solvers"):
        of[name].add_argument("--out", type=Path, help="a JSON file; the lab's results, unless told otherwise")
    for name in ("3", "4"):
        of[name].add_argument("--episodes", type=int, default=200)
        of[name].add_argument("--seed", type=int, default=0)
    of["displacement"].add_argument("--weights", type=Path, help="a folder with models that are not shipped")
    of["displacement"].add_argument("--kept", type=Path, help="where finished methods are kept")
    of["paper-vs-code"].add_argument("runs", type=Path, help="where finished trainings are kept")
    of["paper-vs-code"].add_argument("--cells", nargs="+", help="instead of all")
    of["paper-vs-code"].add_argument("--seeds", nargs="+", type=int)
    of["paper-vs-code"].add_argument("--gather", action="store_true", help="write what is finished into the results")


def main(given: argparse.Namespace) -> int:
    """Measure it."""
    options = {name: value for name, value in vars(given).items() if value is not None}
    importlib.import_module(f"labkit.studies.{FIGURES[options.pop('figure')][0]}").run(**options)
    return 0
