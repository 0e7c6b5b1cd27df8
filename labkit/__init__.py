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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.data import DataError, ImageSet, load_images
    from labkit.data.check import check_data
    from labkit.dmf.authors_checkpoint import load_released, save_released
    from labkit.dmf.model import DMF
    from labkit.episodes.sampler import Episode, EpisodeSampler
    from labkit.evaluation.protocol import Result, evaluate
    from labkit.explorer.opening import explore
    from labkit.methods.base import Method
    from labkit.models.checkpoints import load_model, save_model
    from labkit.own_images.calibration import Calibration, calibrate
    from labkit.own_images.classify import classify, enrol
    from labkit.sweeps.sweep import sweep
    from labkit.training.loop import build_model, train
    from labkit.training.settings import Experiment, experiment

__all__ = [
    "DMF", "Calibration", "DataError", "Episode", "EpisodeSampler", "Experiment", "ImageSet", "Method", "Result",
    "build_model", "calibrate", "check_data", "classify", "enrol", "evaluate", "experiment", "explore", "load_images",
    "load_model", "load_released", "save_model", "save_released", "sweep", "train",
]  # fmt: skip

_HOMES = {
    "data": ("DataError", "ImageSet", "load_images"),
    "data.check": ("check_data",),
    "dmf.authors_checkpoint": ("load_released", "save_released"),
    "dmf.model": ("DMF",),
    "episodes.sampler": ("Episode", "EpisodeSampler"),
    "explorer.opening": ("explore",),
    "evaluation.protocol": ("Result", "evaluate"),
    "methods.base": ("Method",),
    "models.checkpoints": ("load_model", "save_model"),
    "own_images.calibration": ("Calibration", "calibrate"),
    "own_images.classify": ("classify", "enrol"),
    "sweeps.sweep": ("sweep",),
    "training.loop": ("build_model", "train"),
    "training.settings": ("Experiment", "experiment"),
}
_ROOMS = (
    *("common", "data", "episodes", "methods", "dmf", "models", "evaluation", "training", "sweeps", "plotting"),
    *("explorer", "own_images", "studies", "commands"),
)


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is not None:
        found: Any = getattr(import_module(f"labkit.{home}"), name)
    elif name in _ROOMS:
        found = import_module(f"labkit.{name}")
    else:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}; there are {', '.join(__all__)}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
