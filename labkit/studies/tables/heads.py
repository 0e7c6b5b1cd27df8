"""What is trained on one backbone: the systems of Table 1 in two settings each, and the cells of Table 2.

A backbone is trained once and its feature maps are kept; a system then trains only what it adds to them. Validation
classes choose one of a system's two settings, so that all have had the same care. Whoever changes what an entry stands
for raises `VERSION` in `labkit.studies.tables.one_backbone`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from labkit.dmf.options import PRESETS, Choices
from labkit.evaluation.feature_set import FeatureSet
from labkit.studies.tables.cells import BASE_GROUPS, CELLS, TABLE2, Cell, cells_of_table2
from labkit.training.phases import Phase

STEPS, RATE = 1500, 1e-3
OF_DMF: dict[str, Any] = {"alignment": "closed", "score_scale": 0.08}
AS_RELEASED = {name: value for name, value in asdict(PRESETS["released"]).items() if value != vars(Choices())[name]}


@dataclass(frozen=True)
class Head:
    """One training on one backbone.

    Attributes:
        name: by which stored runs know it.
        system: of Table 1; or of Table 2 the part that is ablated.
        method, options: of `labkit.models.registry.METHODS`.
        rate: of Adam.
        pictures: steps on random base pictures before the episodes, for methods that keep weights of base classes.
        episodes: fields of the phase of episodes, where they are not four of five ways.
        trained: False where nothing that training changes is read by the score: it is then measured as it is.
        pooled: on maps pooled once more (`pooled_once_more`).
    """

    name: str
    system: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    rate: float = RATE
    pictures: int = 0
    episodes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    trained: bool = True
    pooled: bool = False

    def mirrored(self, shot: int) -> bool:
        """Whether the method needs the maps of mirror images too, as its `shows_mirrored` says of so many shots."""
        return self.method == "dsn" and shot == 1

    def phases(self, steps: int = STEPS) -> tuple[Phase, ...]:
        """`steps` steps of Adam altogether, on pictures first where there are such."""
        adam = Phase(steps, "head", optimiser="adam", learning_rate=self.rate, weight_decay=0.0)
        if not self.trained:
            return (replace(adam, steps=1, validate_every=1),)
        first = round(steps * self.pictures / STEPS)
        episodes = replace(adam, steps=steps - first, validate_every=min(500, steps - first), **self.episodes)
        if not first:
            return (episodes,)
        before = replace(adam, name="base classes", steps=first, batch="pictures", size=256, validate_every=first)
        return (before, episodes)


def _two(system: str, method: str, first: dict[str, Any], second: dict[str, Any], **both: Any) -> tuple[Head, Head]:
    """Two settings that differ in a system's options; ``"rate of Adam"`` and ``"episodes"`` are of its training."""
    made: list[Head] = []
    kept: dict[str, Any] = {"rate of Adam": RATE, "episodes": {}}
    for options, other in ((first, second), (second, first)):
        own = kept | options
        different = [name for name in own if own[name] != (kept | other).get(name)]
        said = ", ".join(_said(name, own[name]) for name in different)
        rate, episodes = own.pop("rate of Adam"), own.pop("episodes")
        made.append(Head(f"{system}: {said}", system, method, own, rate, episodes=episodes, **both))
    return made[0], made[1]


def _said(name: str, value: Any) -> str:
    if name != "episodes":
        return f"{name} {value}"
    return ", ".join(f"{field} {number}" for field, number in value.items()) or "episodes as all"


SLOW = {"rate of Adam": 1e-4}
TABLE1_HEADS: tuple[Head, ...] = (
    # The paper's equations and what the authors' code does, which differ in seven choices; the scale is ours in both.
    Head("DMF: as the paper", "DMF", "dmf", OF_DMF),
    Head("DMF: as released", "DMF", "dmf", OF_DMF | AS_RELEASED),
    # Without alignment the score reads nothing that is learned.
    *_two(
        "No alignment",
        "dmf",
        OF_DMF | {"alignment": "none"},
        OF_DMF | {"alignment": "none", "class_weight": "normalised"},
        trained=False,
    ),
    # Nothing is trained for an episode: what a plain classifier's features are worth by themselves.
    *_two("SimpleShot", "simpleshot", {"transform": "L2N"}, {"transform": "CL2N"}, trained=False),
    *_two("ProtoNet", "protonet", {"read": "map"}, {"read": "mean"}),
    # The published numbers were made with full context embeddings, whose weights grow with the square of what is read.
    *_two("MatchingNet", "matchingnet", {"read": "map"}, {"read": "mean", "context": True}),
    *_two("RelationNet", "relationnet", {}, SLOW),
    *_two("Dynamic Few-shot", "dynamic_fewshot", {"kind": "attention"}, {"kind": "averaging"}, pictures=500),
    *_two("LEO", "leo", {}, SLOW),
    *_two("PPA", "ppa", {}, SLOW),
    *_two("wDAE", "wdae", {"noise": 0.08}, {"noise": 0.03, "drop": 0.3}, pictures=500),
    *_two("FEAT", "feat", {"temperature": 64.0}, {"temperature": 16.0}),
    # Its authors train one episode of 20 ways at a time, a reference for each.
    *_two("TapNet", "tapnet", {}, {"episodes": {"way": 20, "size": 1, "query": 8}}),
    *_two("SNAIL", "snail", {}, SLOW),
    *_two("MetaOptNet", "metaoptnet", {"head": "svm"}, {"head": "ridge"}),
    *_two("DC", "dense_classification", {"query_pooling": "max"}, {"query_pooling": "mean"}, trained=False),
    *_two("VFSL", "vfsl", {}, SLOW),
    *_two("CAN", "can", {}, SLOW),
    # It adds nothing to be trained. At five shots prototypes are fitted to every episode: the authors' 100 passes over
    # the support would take hours for 2000 episodes, 2 take minutes. At one shot both settings are the same.
    *_two("DeepEMD", "deepemd", {"sfc_epochs": 0}, {"sfc_epochs": 2}),
    *_two("E3BM", "e3bm", {"combination": "last"}, {"combination": "equal"}),
    *_two("DSN", "dsn", {"form": "resnet12"}, {"form": "conv4"}),
)
SYSTEMS = tuple(dict.fromkeys(head.system for head in TABLE1_HEADS))

# Which systems of Table 1 are not there, and why.
LEFT_OUT: dict[str, str] = {
    "MAML": "it adapts all layers to an episode: no picture has features without the episode it is in",
    "TADAM": "the task scales and shifts the backbone's own layers; without that it is ProtoNet with a scale",
    "CC+rot": "it is a training of the backbone, by rotations of the pictures; frozen, the means of shots are left",
    "Robust dist++": "it is an ensemble of backbones and the student distilled from it",
    "Net-Cosine": "its negative margin shapes the backbone; frozen, only a classifier fitted to the support is left",
    "FEAT, WRN-28": "the same head as FEAT's row on a ResNet-12; another backbone is another table",
}


def _of_table2(cell: Cell, released: bool = False) -> Head:
    options = OF_DMF | (AS_RELEASED if released else {}) | cell.changes.get("choices", {})
    if "groups" in cell.changes:
        options["groups"] = cell.changes["groups"]
    trained = options["alignment"] != "none"
    pooled = bool(cell.changes.get("backbone_options", {}).get("last_pool"))
    name = f"{cell.name}, as released" if released else cell.name
    return Head(name, cell.factor, "dmf", options, trained=trained, pooled=pooled)


# The cells of Table 2 by the paper's equations, and as released, where the base is Table 1's.
TABLE2_HEADS = {cell.name: _of_table2(cell) for cell in (CELLS["dmf"], *TABLE2)}
RELEASED_HEADS = {cell.name: _of_table2(cell, released=True) for cell in TABLE2}
RELEASED_HEADS |= {"dmf": next(head for head in TABLE1_HEADS if head.name == "DMF: as released")}
HEADS = {head.name: head for head in (*TABLE1_HEADS, *TABLE2_HEADS.values(), *RELEASED_HEADS.values())}


def heads_of_table2(shot: int, released: bool = False) -> dict[str, Head]:
    """The eleven different cells of Table 2 by their names, the base first."""
    heads = RELEASED_HEADS if released else TABLE2_HEADS
    return {cell.name: heads[cell.name] for cell in cells_of_table2(shot)}


def options_on(head: Head, maps: FeatureSet, way: int, shot: int) -> dict[str, Any]:
    """A head's options, with what maps and episodes decide: cells of a map, groups of DMF, lengths of a sequence."""
    own = dict(head.options)
    h, w = maps.pixels.shape[1:3]
    if head.method in ("can", "matchingnet"):
        own["cells"] = h * w
    if head.method == "snail":
        own |= {"way": way, "shot": shot}
    if head.method == "dmf":
        own.setdefault("groups", BASE_GROUPS[shot])
    return own


def pooled_once_more(maps: FeatureSet) -> FeatureSet:
    """The maps after another 2 x 2 max pooling, as the last pooling of ResNet-12 does: of 6 x 6 cells 3 x 3 are left.

    It stands for the cell "last pooling on". The pooling comes after training here, in the paper before: the backbone
    itself has not learned with it.
    """
    parts = np.array_split(maps.pixels, max(1, len(maps) // 1000))  # a last odd row or column is pooled alone
    pooled = [F.max_pool2d(torch.tensor(part).movedim(-1, 1).float(), 2, ceil_mode=True) for part in parts]
    out = torch.cat(pooled).movedim(1, -1).contiguous().numpy().astype(maps.pixels.dtype)
    first = None if maps.first_centre is None else maps.first_centre + maps.stride / 2
    name, stride = f"{maps.backbone}-pooled", 2 * maps.stride
    # Of the same pictures: by their digest it is known whether two runs were tested on the same episodes.
    return replace(maps, pixels=out, backbone=name, stride=stride, first_centre=first).with_known_digest()
