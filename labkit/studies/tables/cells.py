"""The cells of Tables 1 and 2: every cell is one training in the quick setting, and what it changes in it.

Whoever changes what a cell stands for raises `VERSION` in `labkit.studies.tables.train_cells`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labkit.common import checks
from labkit.training.settings import QUICK, Experiment

# A third of the quick setting's episodes, in bfloat16: enough to leave the plateau and not enough to converge, so
# differences in the speed of learning show here. Two episodes a step and half the learning rate leave it sooner: after
# the same 1600 episodes DMF is at 46.6 ± 1.1 % on validation classes, and with four at 40.4 ± 1.0 %. Validated at
# half-time and at the end.
TABLES = replace(
    QUICK, name="tables", batch=2, steps=800, warmup=100, learning_rate=0.1, validate_every=400, bfloat16=True
)

# The paper's base has 64 groups of 640 channels at one shot and 160 at five; the quick backbone has 160 channels.
BASE_GROUPS = {1: 16, 5: 40}


@dataclass(frozen=True)
class Cell:
    """One training of a table, at any number of shots.

    Attributes:
        name: by which stored rows know it.
        factor: what is varied: the system in Table 1, the part that is ablated in Table 2.
        value: which of the factor's values this is.
        changes: fields of `Experiment` against the base; dictionaries are added to the base's own.
    """

    name: str
    factor: str
    value: str
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)


def _table2(factor: str, value: str, **changes: Any) -> Cell:
    return Cell(f"{factor} {value}", factor, value, changes)


# The rows of Table 2, with the names and the order of results/paper_table2.csv. Groups keep the paper's names and are
# scaled to the backbone's width. The alignments are the T unit steps of Eq. 7-8, the paper's "fixed number of
# recursion", and not T Euler steps of size 1/T, which would approach the ODE.
TABLE2 = (
    _table2("dynamic_sampling", "on"),
    _table2("dynamic_sampling", "off", choices={"sampling": False}),
    _table2("last_pooling", "on", backbone_options={"last_pool": True}),
    _table2("last_pooling", "off"),
    *(_table2("groups", str(groups), groups=max(1, groups // 4)) for groups in (1, 64, 160, 320, 640)),
    _table2("align", "0", choices={"alignment": "none"}),
    *(_table2("align", str(steps), choices={"alignment": f"recurrent({steps})"}) for steps in (1, 2, 3)),
    _table2("align", "ode"),
)


def _table1(factor: str, name: str, **changes: Any) -> Cell:
    return Cell(name, factor, name.partition(", ")[2] or "as published", changes)


# Table 1: two settings of every system, of which validation classes choose one. One of the two is the method's own
# paper's, as far as it fits a thin backbone, the other what most often stops it from starting. MAML sees its support
# again in every inner step; it takes fewer steps, so that all send as many images through.
TABLE1 = (
    _table1("DMF", "dmf"),
    _table1("DMF", "dmf, rate 0.2", learning_rate=0.2),
    _table1("ProtoNet", "protonet, scale 1", method="protonet", choices={"scale": 1.0}),
    _table1("ProtoNet", "protonet, scale 1/16", method="protonet", choices={"scale": 0.0625}),
    _table1("MatchingNet", "matchingnet, scale 1", method="matchingnet", choices={"scale": 1.0}),
    _table1("MatchingNet", "matchingnet, scale 10", method="matchingnet", choices={"scale": 10.0}),
    _table1("RelationNet", "relationnet", method="relationnet"),
    _table1("RelationNet", "relationnet, global loss", method="relationnet", choices={"global_weight": 1.0}),
    _table1("CAN", "can", method="can", choices={"cells": 25}),
    _table1("CAN", "can, rate 0.2", method="can", choices={"cells": 25}, learning_rate=0.2),
    _table1("FEAT", "feat", method="feat", choices={"temperature": 16.0}),
    _table1("FEAT", "feat, global loss", method="feat", choices={"temperature": 16.0, "global_weight": 1.0}),
    _table1("MetaOptNet, SVM", "svm, scale 1", method="metaoptnet", choices={"head": "svm", "scale": 1.0}),
    _table1("MetaOptNet, SVM", "svm, scale 7", method="metaoptnet", choices={"head": "svm", "scale": 7.0}),
    _table1("MetaOptNet, ridge", "ridge, scale 1", method="metaoptnet", choices={"head": "ridge", "scale": 1.0}),
    _table1("MetaOptNet, ridge", "ridge, scale 7", method="metaoptnet", choices={"head": "ridge", "scale": 7.0}),
    _table1("DSN", "dsn, scale 1", method="dsn", choices={"scale": 1.0}),
    _table1("DSN", "dsn, scale 1/16", method="dsn", choices={"scale": 0.0625}),
    _table1("Negative margin", "negmargin, scale 30", method="negmargin", choices={"scale": 30.0}),
    _table1("Negative margin", "negmargin, scale 10", method="negmargin", choices={"scale": 10.0}),
    _table1("DeepEMD", "deepemd", method="deepemd"),
    _table1("DeepEMD", "deepemd, global loss", method="deepemd", choices={"global_weight": 1.0}),
    _table1("MAML", "maml, inner rate 0.1", method="maml", choices={"steps": 3, "test_steps": 3, "inner_rate": 0.1}),
    _table1("MAML", "maml, inner rate 0.3", method="maml", choices={"steps": 3, "test_steps": 3, "inner_rate": 0.3}),
)
SYSTEMS = tuple(dict.fromkeys(cell.factor for cell in TABLE1))
CELLS = {cell.name: cell for cell in (*TABLE1, *TABLE2)}
BASE = CELLS["dmf"]


def row_of_table2(factor: str, value: str) -> Cell:
    """A row of Table 2.

    Raises:
        KeyError: there is none.
    """
    return CELLS[f"{factor} {value}"]


def trained_as(cell: Cell, shot: int) -> Cell:
    """The cell whose training stands for `cell`: what equals the base at this number of shots is the base."""
    return BASE if cell.changes in ({}, {"groups": BASE_GROUPS[shot]}) else cell


def cells_of_table2(shot: int) -> list[Cell]:
    """The eleven different cells of Table 2 at one number of shots, the base first."""
    return list(dict.fromkeys([BASE, *(trained_as(row, shot) for row in TABLE2)]))


def asked_of(table: int, shots: Iterable[int], seeds: Iterable[int]) -> tuple[list[int], list[int]]:
    """The numbers of shots and the seeds that a table is asked for.

    Raises:
        TypeError: no lists of whole numbers.
        ValueError: there is no such table, or no base for so many shots, or a seed below 0.
    """
    if table not in (1, 2):
        raise ValueError(f"there are the tables 1 and 2, got {table!r}")
    shots = [checks.check_int("a number of shots", k) for k in checks.several("shots", shots, "a list of numbers")]
    seeds = [checks.check_int("a seed", k, least=0) for k in checks.several("seeds", seeds, "a list of numbers")]
    if odd := sorted(set(shots) - set(BASE_GROUPS)):
        raise ValueError(f"the tables have {sorted(BASE_GROUPS)} shots, got {odd}")
    return shots, seeds


def setting(name: str, shot: int) -> Experiment:
    """The training of the cell of a name.

    Raises:
        ValueError: there is no such cell, or no base for so many shots.
    """
    if name not in CELLS:
        raise ValueError(f"there is no cell {name!r}; there are {sorted(CELLS)}")
    if shot not in BASE_GROUPS:
        raise ValueError(f"the tables have {sorted(BASE_GROUPS)} shots, got {shot}")
    changes = CELLS[name].changes
    base = replace(TABLES, name=f"{name}, {shot} shot", shot=shot, groups=BASE_GROUPS[shot])
    choices = changes.get("choices", {})
    if "method" not in changes:  # another method shares none of DMF's choices
        choices = base.choices | choices
    options = base.backbone_options | changes.get("backbone_options", {})
    e = replace(base, **{**changes, "choices": choices, "backbone_options": options})
    share = image_passes(base) / image_passes(e)
    schedule = ((name, getattr(base, name)) for name in ("steps", "warmup", "validate_every"))
    return replace(e, **{name: round(share * n) for name, n in schedule})


def image_passes(e: Experiment) -> int:
    """Images that one step sends forward through the backbone: MAML's support once more for every inner step."""
    times = 1 + e.choices["steps"] if e.method == "maml" else 1
    return e.batch * e.way * (times * e.shot + e.query)
