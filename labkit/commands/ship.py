"""Ship a trained model with the lab, in half precision, with its story.

dmf-lab ship ../runs/mini mini --data-root /data/x --command "dmf-lab train mini-thin FOLDER --data-root ROOT"

The accuracy of the very weights that are shipped is measured anew, at one and at five shots, since rounding to half
precision may move it.
"""

import argparse
from pathlib import Path

from labkit.training.shipping import ship


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="what notebook 3 or `dmf-lab train` left")
    parser.add_argument("name", help="by which `labkit.load_model` will find it: small letters, digits, hyphens")
    parser.add_argument("--command", required=True, help="the line `dmf-lab train ...` that trained it")
    parser.add_argument("--data-root", type=Path, help="where the pictures lie")
    parser.add_argument("--unfinished", action="store_true", help="ship what a training has reached before its end")
    parser.add_argument("--replace", action="store_true", help="take the place of a shipped model of that name")


def main(given: argparse.Namespace) -> int:
    how = {"unfinished": given.unfinished, "replace": given.replace}
    ship(given.folder, given.name, given.command, given.data_root, **how)
    return 0
