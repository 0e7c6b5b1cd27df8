"""Train what Table 1 or 2 lacks, or add what is finished to the lab's results.

dmf-lab table 2 ../runs/tables --shots 1        every cell with three seeds; start it again to go on
dmf-lab table 2 ../runs/tables --cells dmf "align 0" --shots 1 --seeds 3 4      more seeds where a claim is undecided
dmf-lab table 1 ../runs/tables --shots 5 --seeds 0 --settings-of 1              only what was chosen at one shot
dmf-lab table 1 ../runs/tables --gather         what is finished, into the lab's results
dmf-lab table 1 ../runs/photos --shots 1 --seeds 0 --dataset miniimagenet --data-root /data/x --systems DMF CAN \\
    --own-training               each in its authors' setting alone
dmf-lab table 1 ../runs/heads --protocol one-backbone --backbone mini-backbone-42 --dataset miniimagenet \\
    --data-root /data/x          only what a system adds to one backbone is trained, on cached feature maps
dmf-lab table 1 ../runs/heads --protocol one-backbone --backbone mini-backbone-42 --dataset miniimagenet --show \\
    --cards ../runs/your_method/Mine.json        train nothing: print Table 1, one's own method (notebook 13) in it
dmf-lab table 1 ../runs/more --protocol one-backbone --backbone mini-backbone-42 --dataset miniimagenet \\
    --data-root /data/x --novel tinyimagenet --novel-root /data/y      what is chosen, tested on 174 other classes
"""

import argparse
from pathlib import Path

from labkit.common.options import changed, only
from labkit.evaluation.feature_set import backbone_digest
from labkit.models.checkpoints import load_model
from labkit.studies.tables import agreement, answers, one_backbone, train_cells
from labkit.studies.tables.cards import with_cards
from labkit.studies.tables.cells import CELLS, asked_of
from labkit.studies.tables.heads import SYSTEMS

GATHERS = "is not read with --gather, which adds all that is finished in the folder: leave it out"
SHOWS = "is not read with --show, which trains nothing: leave it out"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=int, choices=(1, 2))
    parser.add_argument("folder", type=Path, help="of the sweep; finished trainings are kept there")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(train_cells.SEEDS))
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), metavar="CELL", help="of Table 2, instead of all")
    parser.add_argument("--settings-of", type=int, metavar="K", help="of Table 1: only what was chosen at K shots")
    parser.add_argument(
        "--own-training",
        action="store_true",
        help="of Table 1, end to end: of each system its authors' setting alone",
    )
    parser.add_argument("--protocol", choices=("end-to-end", "one-backbone"), default="end-to-end")
    parser.add_argument("--backbone", help="on one backbone: the file of a model, or a shipped one's name")
    parser.add_argument(
        "--dataset", default="glyphs-mini", help="of the pictures; end to end glyphs-mini, miniimagenet"
    )
    parser.add_argument("--data-root", type=Path, help="where the pictures lie")
    parser.add_argument(
        "--systems", nargs="+", metavar="NAME", help="of Table 1; on one backbone also cells of Table 2"
    )
    parser.add_argument(
        "--released", action="store_true", help="of Table 2, on one backbone: DMF as its authors released it"
    )
    parser.add_argument(
        "--novel", help="on one backbone: tinyimagenet, to test on its classes that miniImageNet has not"
    )
    parser.add_argument("--novel-root", type=Path, help="where its pictures lie")
    parser.add_argument("--show", action="store_true", help="on one backbone: train nothing, print Table 1")
    parser.add_argument("--cards", type=Path, nargs="+", default=[], metavar="FILE", help="with --show: of notebook 13")
    parser.add_argument("--engine", default="local", help="local or ray")
    parser.add_argument("--address", help="of a Ray cluster")
    parser.add_argument("--workers", type=int, help="runs at once")
    parser.add_argument(
        "--gather", action="store_true", help="train nothing: add what is finished to the lab's results"
    )


def main(given: argparse.Namespace) -> int:
    if given.protocol == "one-backbone":
        return _on_one_backbone(given)
    other = (given.show, given.cards, given.released, given.backbone, given.novel, given.novel_root)
    if any(other):
        raise ValueError(
            "--show, --cards, --released, --backbone, --novel and --novel-root belong to --protocol one-backbone"
        )
    if given.gather:
        only(changed(arguments, given), ("table", "folder", "gather", "dataset"), GATHERS)
        train_cells.gather(given.folder, given.dataset)
        return 0
    cells = None if given.cells is None else [CELLS[name] for name in given.cells]
    where = {"dataset": given.dataset, "data_root": given.data_root, "systems": given.systems}
    how = where | {"address": given.address, "workers": given.workers, "own_training": given.own_training}
    rows = train_cells.fill(
        given.folder, given.table, given.shots, given.seeds, given.engine, cells, given.settings_of, **how
    )
    if given.table == 1:
        for shot in given.shots:
            print(agreement.end_to_end(rows, shot))
    return 0


def _on_one_backbone(given: argparse.Namespace) -> int:
    """Do what the command asks of a table on one backbone; the exit code.

    Raises:
        ValueError: no backbone, an option of the other protocol, or one that is not read.
    """
    if given.cells is not None or given.settings_of is not None or given.own_training:
        raise ValueError(
            "--cells, --settings-of and --own-training belong to the end-to-end protocol; use --systems here"
        )
    if given.gather:
        only(changed(arguments, given), ("table", "folder", "gather", "protocol", "novel"), GATHERS)
        one_backbone.gather(given.folder, given.novel)
        return 0
    if given.backbone is None:
        raise ValueError("give --backbone, the file of a pre-trained model, or the name of a shipped one")
    if given.show or given.cards:
        return _show(given)
    how = {"address": given.address, "workers": given.workers, "systems": given.systems, "released": given.released}
    how |= {"novel": given.novel, "novel_root": given.novel_root}
    where = given.backbone, given.dataset, given.data_root
    runs = one_backbone.fill(given.folder, given.table, *where, given.shots, given.seeds, given.engine, **how)
    if given.table == 1:
        for shot in given.shots:
            print(agreement.on_one_backbone(runs, shot))
    return 0


def _show(given: argparse.Namespace) -> int:
    """Print Table 1 on one backbone, with the cards that are given; the exit code.

    The sentence above it and the differences from DMF are of all systems, the lines of those that are asked for.

    Raises:
        ValueError: Table 2, a number of shots or a system that it has not, cards that belong to another table, an
            option of trainings, or nothing is measured.
    """
    if given.table == 2 or not given.show:
        raise ValueError("--cards are shown in Table 1: dmf-lab table 1 ... --show --cards FILE")
    read = ("table", "folder", "protocol", "backbone", "dataset", "shots", "systems", "show", "cards", "novel")
    only(changed(arguments, given), read, SHOWS)
    asked_of(given.table, given.shots, given.seeds)
    systems = one_backbone.some_of(given.systems, list(SYSTEMS))
    others = [name for name in SYSTEMS if name not in systems]
    digest = backbone_digest(load_model(given.backbone))
    measured = one_backbone.results(given.folder, backbone=digest, novel=given.novel)
    runs = [run for run in measured if run.dataset == given.dataset]
    if not (runs or given.cards):
        there = f", only on {', '.join(sorted({run.dataset for run in measured}))}" if measured else ""
        raise ValueError(
            f"nothing is measured of {given.backbone} on {given.dataset}{there}: leave --show out to train"
        )
    if given.novel:
        print(f"Tested on the novel classes of {given.novel}.")
    for shot in given.shots:
        known = with_cards(one_backbone.by_system(runs, shot), given.cards, given.dataset, digest, shot)
        if not known:
            print(f"At {shot} shots nothing is measured of {given.backbone} on {given.dataset}.")
            continue
        print(answers.answer_of_table1(known, shot))
        print(answers.on_one_backbone(known, shot).drop(index=others, errors="ignore").round(2).to_string())
    return 0
