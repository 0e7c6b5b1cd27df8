"""A research lab for Dynamic Meta-Filter few-shot learning (Xu et al., CVPR 2021)."""

from labkit.calibration import Calibration, calibrate, fit_temperature
from labkit.checkpoints import load_model, save_model
from labkit.classify import Classified, SupportSet, classify, enrol
from labkit.data import DataError, ImageSet, load_images
from labkit.dmf import DMF
from labkit.episodes import Episode, EpisodeSampler
from labkit.evaluation import Result, evaluate
from labkit.experiments import Experiment, experiment
from labkit.released import load_released, save_released
from labkit.sweeps import Sweep, sweep
from labkit.trace import Trace
from labkit.training import Trained, build_model, train
from labkit.versions import versions

__all__ = [
    "DMF",
    "Calibration",
    "Classified",
    "DataError",
    "Episode",
    "EpisodeSampler",
    "Experiment",
    "ImageSet",
    "Result",
    "SupportSet",
    "Sweep",
    "Trace",
    "Trained",
    "build_model",
    "calibrate",
    "classify",
    "enrol",
    "evaluate",
    "experiment",
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
