"""A research lab for Dynamic Meta-Filter few-shot learning (Xu et al., CVPR 2021)."""

from labkit.common.versions import versions
from labkit.data import DataError, ImageSet, load_images
from labkit.data.check import check_data
from labkit.dmf.authors_checkpoint import load_released, save_released
from labkit.dmf.model import DMF
from labkit.dmf.trace import Trace
from labkit.episodes.sampler import Episode, EpisodeSampler
from labkit.evaluation.protocol import Result, evaluate
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
