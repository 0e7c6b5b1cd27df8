"""Your own images: a few pictures a class become a support set, other pictures are classified.

    labkit.classify(model, support={"cat": ["a.jpg", "b.png"], "dog": ["c.jpg"]}, query=["d.jpg"])

Pictures may have any size and be stored in any way; what cannot be read is named and skipped. A support set is
enrolled once and used for many pictures: ``enrol(model, support).classify(query)``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from labkit.common import checks
from labkit.common.files import write_atomically
from labkit.common.names import read_alike, shown
from labkit.evaluation.features import compare, embed_pictures, picture_preprocessing, preprocessing_of
from labkit.evaluation.protocol import why_not_finite
from labkit.methods.base import Method
from labkit.models.checkpoints import load_model
from labkit.own_images.calibration import REFUSE, Calibration, checked_share, shipped_calibration
from labkit.own_images.pictures import Fit, Pictures, by_text, class_folders, read, unequal

if TYPE_CHECKING:  # slow to import, and `import labkit` should not be
    import pandas as pd

    from labkit.explorer.tasks import Task  # and this needs the notebooks' packages

NONE = "none of these"
PHOTOGRAPHS = "mini-full"  # the shipped model that was trained on photographs, at the paper's width
SIGNS = "quick"  # and that of printed characters
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a spreadsheet recognises one


@dataclass(frozen=True, eq=False)
class Classified:
    """Pictures and their answers; Q pictures, N classes.

    Attributes:
        files: their names, Q.
        pictures: as the network saw them, uint8 [Q, size, size, 3].
        scores: [Q, N], raw.
        probabilities: [Q, N], each row adds up to 1: of a picture that belongs to one of the classes. Calibrated where
            `calibrated`; otherwise too high or too low, depending on the number of shots.
        likeness: [Q], cosine with the class most like it.
        threshold: of likeness, below which the answer is "none of these"; None where nothing is refused.
        skipped: files that could not be read, with the reason.
        support: the set they were compared with.
    """

    files: tuple[str, ...]
    pictures: NDArray[np.uint8]
    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    likeness: NDArray[np.float64]
    threshold: float | None
    skipped: dict[str, str]
    support: SupportSet

    def __repr__(self) -> str:
        found = ", ".join(f"{file}: {answer}" for file, answer in zip(self.files[:6], self.answers, strict=False))
        more = f" and {len(self.files) - 6} more" if len(self.files) > 6 else ""
        how = "" if self.calibrated else "; uncalibrated: softmax of raw scores, nothing is refused"
        return f"Classified({found}{more}; {len(self.skipped)} skipped{how})"

    @property
    def calibrated(self) -> bool:
        """Whether the probabilities have been fitted to frequencies, and "none of these" is an answer."""
        return self.support.calibration is not None

    @property
    def answers(self) -> tuple[str, ...]:
        """The most probable class of each picture, or "none of these"."""
        known = self.likeness >= (-np.inf if self.threshold is None else self.threshold)
        return tuple(best if k else NONE for best, k in zip(self.best, known, strict=True))

    @property
    def best(self) -> tuple[str, ...]:
        """The most probable class of each picture, whether it is refused or not."""
        return tuple(self.support.names[b] for b in self.probabilities.argmax(1))

    def table(self) -> pd.DataFrame:
        """A row a picture: file, answer, best class, P(class) for every class, likeness and its threshold."""
        import pandas as pd

        columns = {f"P({name})": p for name, p in zip(self.support.names, self.probabilities.T, strict=True)}
        rest = {"likeness": self.likeness, "threshold": np.nan if self.threshold is None else self.threshold}
        return pd.DataFrame({"file": self.files, "answer": self.answers, "best": self.best} | columns | rest)

    def to_csv(self, path: Path | str) -> Path:
        """Write `table`, all digits kept; whoever reads the file finds all of it.

        File and class names come from strangers, and a spreadsheet would run one that begins like a formula: such a
        name gets an apostrophe in front, as OWASP recommends.
        """
        table = self.table()
        for column in ("file", "answer", "best"):
            table[column] = [f"'{name}" if name.startswith(FORMULA) else name for name in table[column]]
        file = checks.path("path", path)
        write_atomically(file, table.to_csv(index=False).encode("utf-8", "backslashreplace"))
        return file

    def task(self, title: str = "your pictures") -> Task:
        """The same pictures for `labkit.explorer.widget.explore`, which shows why."""
        from labkit.explorer.tasks import Task

        s = self.support
        return Task(title, s.names, s.pictures, self.pictures, s.shots, files=self.files)


@dataclass(frozen=True, eq=False)
class SupportSet:
    """Classes enrolled with a model; N classes, K pictures at most.

    Attributes:
        model: its features are kept, so it must not be trained further.
        names: of the classes.
        files: names of each class's pictures.
        pictures: as the network saw them, uint8 [N, K, size, size, 3]; black where a class has fewer than K.
        mask: bool [N, K], the pictures that exist.
        features: [N, K, c, h, w]; [N, 2K, c, h, w] with those of mirror images, where the method is shown them.
        fit: how pictures were made square; queries are treated alike.
        calibration: None where nobody fitted one.
        skipped: files that could not be read, with the reason.
    """

    model: Method = field(repr=False)
    names: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]
    pictures: NDArray[np.uint8] = field(repr=False)
    mask: Tensor = field(repr=False)
    features: Tensor = field(repr=False)
    fit: Fit
    calibration: Calibration | None = field(repr=False)
    skipped: dict[str, str]

    @property
    def shots(self) -> tuple[int, ...]:
        """How many pictures each class has."""
        return tuple(len(files) for files in self.files)

    def classify(self, query: Pictures, refuse: float | None = None) -> Classified:
        """Compare pictures with the classes.

        Args:
            query: see `labkit.own_images.pictures.Pictures`.
            refuse: how large a share of the pictures that do belong may be answered with "none of these": 0 for
                never, or 0.01 to 0.5; None takes what the calibration found to refuse right answers rarely. Without a
                calibration nothing is refused.

        Raises:
            ValueError: not one readable picture, or such a share.
            FloatingPointError: scores that are not numbers.
        """
        known = self.calibration
        asked = (known.refuse if known else REFUSE) if refuse is None else refuse
        refuse = checked_share(asked)
        files, pictures, skipped = read(query, preprocessing_of(self.model), self.fit, "query")
        if not files:
            raise ValueError(f"query: {_nothing_in(skipped)}; give at least one picture to classify")
        _warn(skipped)
        features = embed_pictures(self.model, pictures)
        found = [compare(self.model, self.features, self.mask, part) for part in features.split(256)]
        scores, alike = (torch.cat(part).double().cpu().numpy() for part in zip(*found, strict=True))
        if not np.isfinite(scores).all():
            raise FloatingPointError(f"scores are not finite: {why_not_finite(self.model)}")
        probabilities = softmax(scores / (known.temperature(self.shots) if known else 1.0), axis=1)
        threshold = known.threshold(self.shots, refuse) if known and refuse else None
        return Classified(tuple(files), pictures, scores, probabilities, alike, threshold, skipped, self)


def enrol(
    model: Method | Path | str | None,
    support: Mapping[str, Pictures] | Path | str,
    fit: Fit = "letterbox",
    calibration: Calibration | None = None,
) -> SupportSet:
    """Read and embed a few pictures a class, once.

    Args:
        model: `labkit.load_model` or any other method of the lab, trained; or what `load_model` takes; None takes the
            model for photographs, `default_weights`.
        support: pictures by class, or a folder with a subfolder a class. One picture a class is enough, and more
            help; the paper uses one or five.
        fit: ``"letterbox"`` keeps the whole picture, between bars of the mean colour; ``"crop"`` keeps the middle
            square.
        calibration: of `labkit.own_images.calibration.calibrate`; None takes that of a shipped model, if it is one.

    Raises:
        ValueError: fewer than two classes, a class without a readable picture, or two classes whose names read alike,
            such as 1 and "1"; a model that is a head of feature maps.
    """
    if fit not in ("letterbox", "crop"):
        raise ValueError(f"fit must be 'letterbox' or 'crop', got {fit!r}")
    if model is None or isinstance(model, str | Path):
        model = load_model(default_weights() if model is None else model)
    checks.kind("model", model, Method, "a method of labkit, as labkit.load_model gives")
    checks.kind("support", support, (Mapping, str, Path), "pictures by class, {'cat': [...], ...}, or a folder")
    checks.kind("calibration", calibration, (Calibration, type(None)), "a labkit.Calibration or None")
    kept = picture_preprocessing(model)
    classes = class_folders(support) if isinstance(support, str | Path) else by_text("classes", support)
    alike = read_alike(classes)
    if alike:
        raise ValueError(f"two classes have names that read alike: {', '.join(shown(alike))}; rename or join them")
    if len(classes) < 2:
        raise ValueError(f"classification needs at least 2 classes, the support has {sorted(classes)}")
    if NONE in classes:
        raise ValueError(f"{NONE!r} is the answer to what belongs to no class; give that class another name")
    files, pictures = [], []
    skipped: dict[str, str] = {}
    for name, of_class in classes.items():
        readable, squares, lost = read(of_class, kept, fit, name)
        if not readable:
            raise ValueError(f"class {name!r}: {_nothing_in(lost)}; give it at least one, or leave it out")
        files.append(tuple(readable))
        pictures.append(squares)
        skipped |= {f"{name}/{file}": why for file, why in lost.items()}
    _warn(skipped)
    shots = np.array([len(p) for p in pictures])
    if said := unequal(shots.tolist()):
        warnings.warn(said, stacklevel=2)
    mask = np.arange(shots.max()) < shots[:, None]
    padded = np.zeros((*mask.shape, kept.size, kept.size, 3), np.uint8)
    padded[mask] = np.concatenate(pictures)
    embedded = embed_pictures(model, padded[mask])
    features = embedded.new_zeros(*mask.shape, *embedded.shape[1:])
    there = torch.from_numpy(mask).to(embedded.device)
    features[there] = embedded
    if model.shows_mirrored(mask.shape[1]):
        of_mirrored = torch.zeros_like(features)
        of_mirrored[there] = embed_pictures(model, padded[mask], mirrored=True)
        features = torch.cat([features, of_mirrored], dim=1)
    calibration = calibration or shipped_calibration(model)
    if calibration is None:
        warnings.warn(
            "this model has no calibration: probabilities are the softmax of raw scores, and nothing is refused; fit "
            "one with labkit.own_images.calibration.calibrate(model, validation_images)",
            stacklevel=2,
        )
    return SupportSet(model, tuple(classes), tuple(files), padded, there, features, fit, calibration, skipped)


def default_weights(photographs: bool = True) -> str:
    """The shipped model for pictures: ``"mini-full"`` for photographs, ``"quick"`` for drawn signs."""
    return PHOTOGRAPHS if photographs else SIGNS


def classify(
    model: Method | Path | str | None,
    support: Mapping[str, Pictures] | Path | str,
    query: Pictures,
    fit: Fit = "letterbox",
    calibration: Calibration | None = None,
    refuse: float | None = None,
) -> Classified:
    """`enrol` and `SupportSet.classify` in one: which class pictures belong to, of a few pictures of each.

    Args:
        model, support, fit, calibration: of `enrol`.
        query: the pictures to classify.
        refuse: of `SupportSet.classify`, the share of belonging pictures that may be answered with "none of these".

    Raises:
        TypeError: an argument of another kind.
        ValueError: fewer than two classes, no readable picture of a class or to classify, a share that cannot be, or
            what else `enrol` refuses.
        FileNotFoundError: no such model.
        FloatingPointError: scores that are not numbers.
    """
    return enrol(model, support, fit, calibration).classify(query, refuse)


def _nothing_in(skipped: Mapping[str, str]) -> str:
    lost = "; ".join(f"{file}: {why}" for file, why in list(skipped.items())[:3])
    return f"not one of {len(skipped)} pictures can be read ({lost})" if skipped else "there is no picture"


def _warn(skipped: Mapping[str, str]) -> None:
    if skipped:
        lost = "; ".join(f"{file}: {why}" for file, why in skipped.items())
        warnings.warn(f"{len(skipped)} unreadable pictures were skipped: {lost}", stacklevel=3)
