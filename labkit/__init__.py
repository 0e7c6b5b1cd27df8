"""A research lab for Dynamic Meta-Filter few-shot learning (Xu et al., CVPR 2021)."""

from labkit.checkpoints import load_model, save_model
from labkit.data import DataError, ImageSet, load_images
from labkit.dmf import DMF
from labkit.episodes import Episode, EpisodeSampler
from labkit.evaluation import Result, evaluate
from labkit.experiments import Experiment, experiment
from labkit.released import load_released, save_released
from labkit.trace import Trace
from labkit.training import Trained, build_model, train
from labkit.versions import versions

__all__ = [
    "DMF",
    "DataError",
    "Episode",
    "EpisodeSampler",
    "Experiment",
    "ImageSet",
    "Result",
    "Trace",
    "Trained",
    "build_model",
    "evaluate",
    "experiment",
    "load_images",
    "load_model",
    "load_released",
    "save_model",
    "save_released",
    "train",
    "versions",
]
