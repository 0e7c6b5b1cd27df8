"""The first minutes on a GPU: checks, the speed table, and the paper's own training in the time that is left.

dmf-lab gpu --data-root /data/mini --seconds 540 --out ../runs/gpu      again to go on: 5-shot, no alignment, CAN, ...
dmf-lab gpu --data-root /data/mini --whole --out ../runs/gpu            every training in full, over as many calls
dmf-lab gpu --device cpu --tiny --seconds 60 --out ../runs/rehearsal    a rehearsal without a GPU or a data set
dmf-lab gpu --estimate                                                  only the estimate from counted operations
"""

import argparse
import sys
from pathlib import Path

from labkit.common.devices import available
from labkit.common.options import changed, only, refuse
from labkit.studies.gpu import estimate
from labkit.studies.gpu.run import run
from labkit.studies.gpu.works import works
from labkit.training.step import GRAPHS, LOSS_ALONE


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-root", type=Path, help="where miniImageNet lies")
    parser.add_argument("--seconds", type=float, default=540, help="of this call, loading included")
    parser.add_argument("--out", type=Path, help="a folder; what is finished there is not done again")
    parser.add_argument(
        "--device", default="cuda", choices=("cuda", "cpu"), help="the first GPU that is visible, or none"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    parser.add_argument("--works", nargs="+", choices=list(works()), metavar="NAME", help="trainings, instead of all")
    parser.add_argument("--whole", action="store_true", help="do not shorten a training to the time that is left")
    parser.add_argument(
        "--compiler",
        help=f"of trainings that begin: inductor, {GRAPHS} (with CUDA graphs), {LOSS_ALONE} (pictures are prepared "
        "uncompiled), or another backend of torch.compile; the fastest that was measured unless given",
    )
    parser.add_argument("--tiny", action="store_true", help="tiny sizes and pictures made on the spot: a rehearsal")
    parser.add_argument("--estimate", action="store_true", help="only print how many minutes mini-1shot should take")


def main(given: argparse.Namespace) -> int:
    """Do what is not done yet; 2 if it is not said with which pictures or where to.

    Raises:
        ValueError: an option that is not read, or what `labkit.studies.gpu.run.run` refuses.
    """
    options = changed(arguments, given)
    if given.estimate:
        only(options, ("estimate",), "is not read with --estimate, which only prints: leave it out")
        print("\n".join(estimate.lines(works()["mini-1shot"])))
        return 0
    if given.out is None or (given.data_root is None and not given.tiny):
        print("--out and --data-root are needed (or --tiny, or --estimate)", file=sys.stderr)
        return 2
    if given.tiny:
        refuse(options, ("data_root",), "is not read with --tiny, whose pictures are made on the spot: leave it out")
    run(
        given.data_root,
        given.out,
        given.seconds,
        available(given.device).type,
        small=given.tiny,
        command=sys.argv,
        seed=given.seed,
        names=given.works,
        compiler=given.compiler,
        whole=given.whole,
    )
    return 0
