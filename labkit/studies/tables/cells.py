"""The cells of Tables 1 and 2: every cell is one training in the quick setting, and what it changes in it.

A cell is known by its name. Whoever changes what a name stands for gives it another, or raises `VERSION` in
`labkit.studies.tables.train_cells`, which throws all finished trainings away.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labkit.common import checks
from labkit.methods.authors import Trainings
from labkit.methods.dsn import CONV4_TRAINING
from labkit.models.registry import METHODS
from labkit.training.authors import shortened
from labkit.training.phases import Phase
from labkit.training.settings import MINI_SMALL, QUICK, Experiment

# A third of the quick setting's episodes, in bfloat16: enough to leave the plateau and not enough to converge, so
# differences in the speed of learning show here. Two episodes a step and half the learning rate leave it sooner: after
# the same 1600 episodes DMF is at 46.6 ± 1.1 % on validation classes, and with four at 40.4 ± 1.0 %. Validated at
# half-time and at the end.
TABLES = replace(
    QUICK, name="tables", batch=2, steps=800, warmup=100, learning_rate=0.1, validate_every=400, bfloat16=True
)

# On photographs of 42 px a training is 12,000 episodes of DMF long, 20 to 30 minutes on a core.
BASES = {TABLES.dataset: TABLES, MINI_SMALL.dataset: replace(MINI_SMALL, validate_every=MINI_SMALL.steps // 2)}

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
        training: whose phases and options take the place of the base's training; None keeps that.
        rate: by what the learning rates of `training` are multiplied.
    """

    name: str
    factor: str
    value: str
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    training: Trainings | None = field(default=None, hash=False, repr=False)
    rate: float = 1.0


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


def _table1(system: str, name: str, method: str, training: Trainings | None, rate: float = 1.0, **choices: Any) -> Cell:
    said = name.partition(", ")[2]
    return Cell(name, system, said, {"method": method, "choices": choices}, training, rate)


def _own(system: str, method: str, said: str = "", rate: float = 1.0, **choices: Any) -> Cell:
    """A system in its authors' training."""
    name = ", ".join(filter(None, (method, "authors'", said)))
    return _table1(system, name, method, METHODS[method].authors_training, rate, **choices)


def _common(system: str, method: str, said: str = "", **choices: Any) -> Cell:
    """A system in the training that is DMF's."""
    return _table1(system, ", ".join(filter(None, (method, "common", said))), method, None, **choices)


# Table 1: two settings of every system, of which validation classes choose one. The first is its authors' training and
# their options, as long as the image passes last, half of them for pictures and half for episodes where the authors
# train on both; the second is the common training, with what suits it, where that is a sensible way to train the
# system, and otherwise a second choice in the authors'. Fewer than authors take: DeepEMD fits prototypes in 2 passes
# over the support instead of 100 (2000 test episodes would last four hours), and Robust dist++ has 4 members instead of
# 20, as all of them see every picture.
_PASSES: dict[str, Any] = {"sfc_epochs": 2}
_MEMBERS: dict[str, Any] = {"members": 4}
TABLE1 = (
    Cell("dmf", "DMF", "as published"),
    Cell("dmf, rate 0.2", "DMF", "rate 0.2", {"learning_rate": 0.2}),
    _own("ProtoNet", "protonet"),
    _common("ProtoNet", "protonet", "scale 1/16", scale=0.0625),
    _own("MatchingNet", "matchingnet"),
    _common("MatchingNet", "matchingnet", "scale 10", scale=10.0),
    _own("RelationNet", "relationnet"),
    _common("RelationNet", "relationnet", "global loss", global_weight=1.0),
    _own("MAML", "maml"),
    _own("MAML", "maml", "inner rate 0.1", inner_rate=0.1),
    _own("Dynamic Few-shot", "dynamic_fewshot"),
    _own("Dynamic Few-shot", "dynamic_fewshot", "averaging", kind="averaging"),
    _own("LEO", "leo"),
    _own("LEO", "leo", "10 x the rate", rate=10),
    _own("PPA", "ppa"),
    _own("PPA", "ppa", "10 x the rate", rate=10),
    _own("Robust dist++", "robust_dist", **_MEMBERS),
    _own("Robust dist++", "robust_dist", "10 x the rate", rate=10, **_MEMBERS),
    _own("wDAE", "wdae"),
    _own("wDAE", "wdae", "noise 0.03, dropout 0.3", noise=0.03, drop=0.3),
    _own("CC+rot", "cc_rot"),
    _common("CC+rot", "cc_rot"),
    _own("FEAT", "feat"),
    _common("FEAT", "feat", "temperature 16, global loss", temperature=16.0, global_weight=1.0),
    _own("TapNet", "tapnet"),
    _common("TapNet", "tapnet"),
    _own("SNAIL", "snail"),
    _own("SNAIL", "snail", "10 x the rate", rate=10),
    _own("MetaOptNet", "metaoptnet"),
    _common("MetaOptNet", "metaoptnet", "ridge", head="ridge"),
    _own("TADAM", "tadam"),
    _common("TADAM", "tadam", "global loss", global_weight=1.0),
    _own("DC", "dense_classification"),
    _common("DC", "dense_classification"),
    # How its authors trained it is not known.
    _common("VFSL", "vfsl"),
    _common("VFSL", "vfsl", "the whole bound", divergence_weight=1.0),
    _own("CAN", "can"),
    _common("CAN", "can"),
    _own("DeepEMD", "deepemd", **_PASSES),
    _common("DeepEMD", "deepemd", "global loss", global_weight=1.0, sfc_in_training=False, **_PASSES),
    _own("E3BM", "e3bm"),
    _own("E3BM", "e3bm", "equal", combination="equal"),
    _own("DSN", "dsn"),
    _table1("DSN", "dsn, authors', conv4", "dsn", CONV4_TRAINING),
    _own("Net-Cosine", "negmargin"),
    _own("Net-Cosine", "negmargin", "a third of the rate", rate=1 / 3),
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
    return BASE if cell.training is None and cell.changes in ({}, {"groups": BASE_GROUPS[shot]}) else cell


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
    return shots_and_seeds(shots, seeds)


def shots_and_seeds(shots: Iterable[int], seeds: Iterable[int]) -> tuple[list[int], list[int]]:
    """The numbers of shots and the seeds of trainings in the tables' setting; raises what `asked_of` raises."""
    shots = [checks.check_int("a number of shots", k) for k in checks.several("shots", shots, "a list of numbers")]
    seeds = [checks.check_int("a seed", k, least=0) for k in checks.several("seeds", seeds, "a list of numbers")]
    if odd := sorted(set(shots) - set(BASE_GROUPS)):
        raise ValueError(f"the tables have {sorted(BASE_GROUPS)} shots, got {odd}")
    return shots, seeds


def check_dataset(dataset: str) -> None:
    """Refuse a set of pictures that is not among `BASES`, with a ValueError."""
    if dataset not in BASES:
        raise ValueError(f"the tables are measured on {sorted(BASES)}, got {dataset!r}")


def setting(name: str, shot: int, dataset: str = TABLES.dataset) -> Experiment:
    """The training of the cell of a name, as many image passes long as the base's.

    A phase of the authors' training is validated at its half and at its end.

    Raises:
        ValueError: there is no such cell, or no base for so many shots or for this dataset.
    """
    if name not in CELLS:
        raise ValueError(f"there is no cell {name!r}; there are {sorted(CELLS)}")
    if shot not in BASE_GROUPS:
        raise ValueError(f"the tables have {sorted(BASE_GROUPS)} shots, got {shot}")
    check_dataset(dataset)
    base = replace(BASES[dataset], name=f"{name}, {shot} shot", shot=shot, groups=BASE_GROUPS[shot])
    return applied(CELLS[name], base)


def applied(cell: Cell, base: Experiment) -> Experiment:
    """The base with a cell's changes, made as long as the base in image passes.

    A cell of an authors' training takes the one for the base's number of shots.
    """
    choices = dict(cell.changes.get("choices", {}))
    if "method" not in cell.changes:  # another method shares none of DMF's choices
        choices = base.choices | choices
    elif cell.training is not None:
        choices = {**cell.training[base.shot].options, **choices}
    if cell.changes.get("method") in ("can", "maml"):
        choices["cells"] = (-(-base.size // 8)) ** 2  # of the ResNet-12's map
    options = base.backbone_options | cell.changes.get("backbone_options", {})
    e = replace(base, **{**cell.changes, "choices": choices, "backbone_options": options})
    if cell.training is None:
        share = image_passes(base) / image_passes(e)
        schedule = ((name, getattr(base, name)) for name in ("steps", "warmup", "validate_every"))
        return replace(e, **{name: round(share * n) for name, n in schedule})
    phases = tuple(Phase(**fields) for fields in cell.training[base.shot].phases)
    phases = tuple(replace(phase, learning_rate=cell.rate * phase.learning_rate) for phase in phases)
    kinds = {phase.batch for phase in phases}
    for kind in kinds:  # each the same share of the image passes, however long the authors stay with it
        passes = sum(phase.steps * passes_of_a_step(e, phase) for phase in phases if phase.batch == kind)
        share = image_passes(base) / len(kinds) / passes
        phases = tuple(shortened([phase], share)[0] if phase.batch == kind else phase for phase in phases)
    return replace(e, phases=phases, steps=sum(phase.steps for phase in phases))


def image_passes(e: Experiment) -> int:
    """Images that a training sends forward through a backbone."""
    return sum(phase.steps * passes_of_a_step(e, phase) for phase in e.plan)


def passes_of_a_step(e: Experiment, phase: Phase) -> int:
    """Images that a step of a phase sends forward."""
    # Four rotations of each picture; all members of an ensemble and the student.
    copies: int = {"cc_rot": 4, "robust_dist": 1 + e.choices.get("members", 20)}.get(e.method, 1)
    if phase.batch == "pictures":
        return copies * phase.size
    shot = phase.shot or e.shot
    # The support once more for every inner step; to learn what the task is; mirrored.
    times: int = {"maml": 1 + e.choices.get("steps", 5), "tadam": 2, "dsn": 2 if shot == 1 else 1}.get(e.method, 1)
    return copies * phase.size * (phase.way or e.way) * (times * shot + (phase.query or e.query))
