"""Train every idea of labkit/studies/ideas.py beside DMF and no alignment, on one backbone's cached maps.

dmf-lab ideas ../runs/ideas --backbone mini-backbone-42 --dataset miniimagenet --data-root /data/x
    all ideas on validation classes; start it again to go on, a line a seed in ../runs/ideas/ideas.jsonl
dmf-lab ideas ../runs/ideas --backbone ... --shots 1 --seeds 0 1 2 3 4 --novel
    the one that validation chose, DMF and no alignment: novel classes and displaced pictures, once
dmf-lab ideas ../runs/ideas --gather
    what is finished there is added to the lab's own results, which notebook 13 shows
"""

import argparse
from pathlib import Path

from labkit.common.options import changed, only
from labkit.studies import idea_runs
from labkit.studies.tables.heads import STEPS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="of the sweep; finished trainings are kept there")
    parser.add_argument("--backbone", help="the file of a model, or a shipped one's name")
    parser.add_argument("--dataset", default="glyphs-mini")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ideas", nargs="+", metavar="NAME", help=f"of {', '.join(map(repr, idea_runs.NAMES))}")
    parser.add_argument("--novel", action="store_true", help="the novel classes, for the idea that validation chose")
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="of training; fewer for a first look, which is not gathered"
    )
    parser.add_argument(
        "--gather", action="store_true", help="train nothing: add what is finished to the lab's results"
    )
    parser.add_argument("--workers", type=int, help="runs at once")


def main(given: argparse.Namespace) -> int:
    """Train the ideas and print their table, or gather what is finished.

    Raises:
        ValueError: no backbone to train on, an option that is not read, or what `labkit.studies.idea_runs` refuses.
    """
    if given.gather:
        why = "is not read with --gather, which adds all that is finished in the folder: leave it out"
        only(changed(arguments, given), ("folder", "gather"), why)
        idea_runs.gather(given.folder)
        return 0
    if given.backbone is None:
        raise ValueError("give --backbone, the file of a pre-trained model, or the name of a shipped one")
    where = given.backbone, given.dataset, given.data_root
    found = idea_runs.fill(
        given.folder, *where, given.shots, given.seeds, given.ideas, given.novel, given.steps, workers=given.workers
    )
    print(found.round(2).to_string(index=False))
    return 0
