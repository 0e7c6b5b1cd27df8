"""Measure what a figure of the paper, or a study of the lab, shows, and write it into the lab's results."""

import argparse
import importlib
from pathlib import Path

from labkit.common.checks import check_int
from labkit.common.options import refuse

# Module of `labkit.studies` with a function `run`, and what it measures. With --dataset it is measured on any pictures.
FIGURES = {
    "3": ("figure3_sampling", "do the sampled points of Figure 3 lie on the object?"),
    "4": ("figure4_heat", "does alignment bring the query's object out, as in Figure 4?"),
    "displacement": ("displacement.measure", "accuracy against displacement, clutter and contrast"),
    "solvers": ("solvers", "what the ODE buys, solver by solver"),
    "paper-vs-code": ("paper_vs_code", "train the paper's setting, the released one and every difference"),
}
ON_ANY_PICTURES = {"3": "figure3_without_masks", "4": "figure4_without_masks", "displacement": "displacement.shifted"}


def arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    of = {name: kinds.add_parser(name, help=what, description=what) for name, (_, what) in FIGURES.items()}
    for name in ("3", "4", "displacement", "solvers"):
        of[name].add_argument("--out", type=Path, help="a JSON file; the lab's results, unless told otherwise")
    for name in ON_ANY_PICTURES:
        own = of[name].add_argument_group("on pictures without masks, such as miniImageNet")
        if name == "displacement":
            own.add_argument("--ground", choices=("mirrored", "blurred"), help="what a shifted picture leaves behind")
        own.add_argument("--dataset", help="of the pictures; without it the shipped study of glyphs is repeated")
        own.add_argument("--data-root", type=Path, help="where they lie; $LABKIT_DATA, unless told otherwise")
        own.add_argument("--figures", type=Path, help="folder of the figure; figures, unless told otherwise")
        of[name].add_argument("--episodes", type=int)
        of[name].add_argument("--seed", type=int)
        how = "with --dataset: shipped networks by name, or files; the first is drawn"
        of[name].add_argument("--weights", nargs="+", help=f"{how}. displacement without it: a folder with models")
    of["displacement"].add_argument("--kept", type=Path, help="of glyphs: where finished methods are kept")
    of["paper-vs-code"].add_argument("runs", type=Path, help="where finished trainings are kept")
    of["paper-vs-code"].add_argument("--cells", nargs="+", help="instead of all")
    of["paper-vs-code"].add_argument("--seeds", nargs="+", type=int)
    of["paper-vs-code"].add_argument(
        "--dataset", help="of the pictures: glyphs-mini, unless told otherwise, miniimagenet"
    )
    of["paper-vs-code"].add_argument(
        "--data-root", type=Path, help="where they lie; $LABKIT_DATA, unless told otherwise"
    )
    of["paper-vs-code"].add_argument("--workers", type=int, help="trainings at once")
    of["paper-vs-code"].add_argument("--gather", action="store_true", help="write what is finished into the results")


def main(given: argparse.Namespace) -> int:
    """Measure it.

    Raises:
        ValueError: an option that belongs to the other way of measuring, or a number that cannot be.
    """
    options = {name: value for name, value in vars(given).items() if value is not None}
    for name, least in (("episodes", 1), ("seed", 0)):
        if name in options:
            check_int(name, options[name], least)
    for seed in options.get("seeds", ()):
        check_int("a seed", seed, least=0)
    figure = options.pop("figure")
    if options.get("gather"):
        why = "is not read with --gather, which adds all that is finished in the folder: leave it out"
        refuse(options, ("cells", "seeds", "data_root", "workers"), why)
    module = FIGURES[figure][0]
    if figure in ON_ANY_PICTURES and "dataset" in options:
        module = ON_ANY_PICTURES[figure]
        refuse(options, ("kept",), "belongs to the study of glyphs: leave --dataset out")
    elif figure in ON_ANY_PICTURES:
        others = (
            "data_root",
            "figures",
            "ground",
            *(("episodes", "seed") if figure == "displacement" else ("weights",)),
        )
        refuse(options, others, "needs --dataset: without it the shipped study of glyphs is repeated")
        if "weights" in options:
            options["weights"] = _one_folder(options["weights"])
    importlib.import_module(f"labkit.studies.{module}").run(**options)
    return 0


def _one_folder(weights: list[str]) -> Path:
    """The folder of models that the study of glyphs takes.

    Raises:
        ValueError: several, or something else.
    """
    if len(weights) > 1 or not Path(weights[0]).is_dir():
        raise ValueError(
            f"--weights must be one folder with models where --dataset is left out, got {' '.join(weights)}"
        )
    return Path(weights[0])
