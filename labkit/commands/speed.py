"""Measure the fast form of DMF against the literal one; what is measured already is not measured again."""

import argparse
from pathlib import Path

from labkit.studies.speed import measure
from labkit.studies.speed.setting import Setting


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="a JSON file, NAME.json; finished parts are kept in the folder NAME")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=measure.THREADS)
    parser.add_argument("--parts", nargs="+", default=list(measure.PARTS), choices=list(measure.PARTS))


def main(given: argparse.Namespace) -> int:
    measure.run(given.out, given.parts, Setting(device=given.device), given.threads)
    return 0
