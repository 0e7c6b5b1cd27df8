"""A research lab for Dynamic Meta-Filter few-shot learning (Xu et al., CVPR 2021).

    images  = labkit.load_images("glyphs-mini", "test")                   # -> ImageSet
    sampler = labkit.EpisodeSampler(images, way=5, shot=1, query=15)      # sampler[42], len, iter -> Episode
    model   = labkit.load_model("quick")                                  # -> Method; load_released the authors'
    scores  = model(support, query)                                       # [E, N, K, 3, h, w], [E, Q, 3, h, w]
    result  = labkit.evaluate(model, images, way=5, shot=1)               # -> Result
    trained = labkit.train(labkit.experiment("quick"), base, validation, folder)
    done    = labkit.sweep(run, {"seed": [0, 1]}, folder=..., version=1)  # -> Sweep
    answers = labkit.classify(model, {"cat": [...], "dog": [...]}, [...]) # -> Classified
    box     = labkit.explore()                                            # -> a widget

A name is imported when it is first used: importing `labkit` alone takes hardly more than importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.common.versions import versions
    from labkit.data import DataError, ImageSet, load_images
    from labkit.data.check import check_data
    from labkit.dmf.authors_checkpoint import load_released, save_released
    from labkit.dmf.model import DMF
    from labkit.dmf.trace import Trace
    from labkit.episodes.sampler import Episode, EpisodeSampler
    from labkit.evaluation.protocol import Result, evaluate
    from labkit.explorer.opening import explore
    from labkit.methods.base import Method
    from labkit.models.checkpoints import load_model, save_model
    from labkit.own_images.calibration import Calibration, calibrate, fit_temperature
    from labkit.own_images.classify import Classified, SupportSet, classify, enrol
    from labkit.sweeps.sweep import Sweep, sweep
    from labkit.training.loop import Trained, build_model, train
    from labkit.training.settings import Experiment, experiment

__all__ = [
    "DMF",
    "Calibration",
    "Classified",
    "DataError",
    "Episode",
    "EpisodeSampler",
    "Experiment",
    "ImageSet",
    "Method",
    "Result",
    "SupportSet",
    "Sweep",
    "Trace",
    "Trained",
    "build_model",
    "calibrate",
    "check_data",
    "classify",
    "enrol",
    "evaluate",
    "experiment",
    "explore",
    "fit_temperature",
    "load_images",
    "load_model",
    "load_released",
    "save_model",
    "save_released",
    "sweep",
    "train",
    "versions",
]

_HOMES = {
    "check_data": "labkit.data.check",
    "Method": "labkit.methods.base",
    "Calibration": "labkit.own_images.calibration",
    "Classified": "labkit.own_images.classify",
    "DMF": "labkit.dmf.model",
    "DataError": "labkit.data",
    "Episode": "labkit.episodes.sampler",
    "EpisodeSampler": "labkit.episodes.sampler",
    "Experiment": "labkit.training.settings",
    "ImageSet": "labkit.data",
    "Result": "labkit.evaluation.protocol",
    "SupportSet": "labkit.own_images.classify",
    "Sweep": "labkit.sweeps.sweep",
    "Trace": "labkit.dmf.trace",
    "Trained": "labkit.training.loop",
    "build_model": "labkit.training.loop",
    "calibrate": "labkit.own_images.calibration",
    "classify": "labkit.own_images.classify",
    "enrol": "labkit.own_images.classify",
    "evaluate": "labkit.evaluation.protocol",
    "experiment": "labkit.training.settings",
    "explore": "labkit.explorer.opening",
    "fit_temperature": "labkit.own_images.calibration",
    "load_images": "labkit.data",
    "load_model": "labkit.models.checkpoints",
    "load_released": "labkit.dmf.authors_checkpoint",
    "save_model": "labkit.models.checkpoints",
    "save_released": "labkit.dmf.authors_checkpoint",
    "sweep": "labkit.sweeps.sweep",
    "train": "labkit.training.loop",
    "versions": "labkit.common.versions",
}
_ROOMS = (
    *("common", "data", "episodes", "methods", "dmf", "models", "evaluation", "training", "sweeps", "plotting"),
    *("explorer", "own_images", "studies", "commands"),
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found: Any = getattr(import_module(_HOMES[name]), name)
    elif name in _ROOMS:
        found = import_module(f"labkit.{name}")
    else:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}; there are {', '.join(__all__)}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
