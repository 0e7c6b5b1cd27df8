"""Heads on one backbone: only what a method adds is trained, on feature maps that were computed once.

backbone = load_model("mini-backbone-42")
base, validation, novel = (embed_all(backbone, images) for images in pictures)
trained = train_head("dmf", {"alignment": "closed", "groups": 16}, base, validation, folder, seed=0)
evaluate(trained.model, novel)                     # 2000 episodes in seconds
whole = on_pictures(trained.model, backbone)       # an ordinary model, of pictures
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from labkit.common import checks
from labkit.episodes.preprocessing import Preprocessing
from labkit.evaluation.feature_set import FeatureSet, backbone_digest
from labkit.evaluation.protocol import evaluate
from labkit.methods.base import Method
from labkit.models.checkpoints import save_model
from labkit.training.logbook import Log
from labkit.training.loop import Trained, build_model, train
from labkit.training.phases import Phase
from labkit.training.settings import Experiment


def head_experiment(
    method: str,
    options: Mapping[str, Any],
    maps: FeatureSet,
    phases: tuple[Phase, ...],
    way: int = 5,
    shot: int = 1,
    query: int = 6,
    **more: Any,
) -> Experiment:
    """The experiment that trains a method's own layers on `maps`; DMF's `groups` and `preset` are among its options."""
    own = dict(options)
    of_dmf = {name: own.pop(name) for name in ("groups", "preset") if method == "dmf" and name in own}
    return Experiment(
        f"head of {method}",
        maps.provenance.dataset,
        size=maps.size,
        method=method,
        backbone="features",
        backbone_options=maps.backbone_options,
        choices=own,
        way=way,
        shot=shot,
        query=query,
        steps=sum(phase.steps for phase in phases),
        phases=phases,
        **of_dmf,
        **more,
    )


def train_head(
    method: str,
    options: Mapping[str, Any],
    base: FeatureSet,
    validation: FeatureSet,
    folder: Path | str,
    seed: int = 0,
    *,
    steps: int = 1500,
    learning_rate: float = 1e-3,
    phases: tuple[Phase, ...] | None = None,
    log: Log | None = None,
    progress: bool = True,
    **more: Any,
) -> Trained:
    """Train what a method adds to a backbone, with the loop that trains everything; `folder` as in `train`.

    A method that adds nothing to be trained (ProtoNet) is measured on the validation classes and saved as it is.

    Args:
        method, options: of `labkit.models.registry.METHODS`, and its own options.
        base, validation: maps of one backbone.
        folder: receives metrics and checkpoints; the head's file holds no backbone.
        steps, learning_rate: of Adam, four episodes a step, falling along a cosine.
        phases: in place of that one phase.
        more: fields of the `Experiment`: way, shot, query, validation_episodes, test_query.

    Raises:
        ValueError: maps of two backbones, or what `train` refuses.
    """
    for name, maps in (("base", base), ("validation", validation)):
        checks.kind(name, maps, FeatureSet, "a FeatureSet, as labkit.evaluation.feature_set.embed_all gives")
    if base.backbone != validation.backbone:
        raise ValueError(f"base and validation are of two backbones, {base.backbone} and {validation.backbone}")
    folder = checks.path("folder", folder, "the path of a folder")
    adam = Phase(
        steps, "head", optimiser="adam", learning_rate=learning_rate, weight_decay=0.0, validate_every=min(500, steps)
    )
    e = head_experiment(method, options, base, phases or (adam,), **more)
    model = build_model(e, len(base.class_names), seed)
    if any(True for _ in model.parameters()):
        return train(e, base, validation, folder, seed=seed, log=log, progress=progress)
    model.preprocessing = Preprocessing.of(base)
    model.take_base_mean(base.mean)
    result = evaluate(model.eval(), validation, e.way, e.shot, e.test_query, e.validation_episodes)
    about = {"experiment": e.to_json(), "seed": seed, "step": 0, "validation": result.summary()}
    save_model(model, folder / "best.safetensors", about)
    return Trained(model, result.accuracy, [], folder, 0.0)


def on_pictures(head: Method, backbone: Method) -> Method:
    """A head and the backbone whose maps it was trained on as one model of pictures, in evaluation mode.

    Raises:
        ValueError: the head was trained on another backbone's maps.
    """
    wanted, found = getattr(head.backbone, "digest", ""), backbone_digest(backbone)
    if wanted != found:
        raise ValueError(f"the head was trained on maps of the backbone {wanted or 'of pictures'}, this one is {found}")
    # A module that was given has no name to be made anew by; copied, since both models may be trained further.
    own = backbone.backbone_name or copy.deepcopy(backbone.backbone)
    of_backbone = {"backbone": own, "backbone_options": backbone.backbone_options}
    with torch.random.fork_rng():
        model = type(head)(**head.recipe() | of_backbone)
    model.load_state_dict(
        head.state_dict() | {f"backbone.{name}": value for name, value in backbone.backbone.state_dict().items()}
    )
    model.preprocessing = backbone.preprocessing
    device = next(backbone.parameters(), torch.zeros(())).device
    return model.to(device).eval()
