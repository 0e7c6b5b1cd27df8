"""The runs of Tables 1 and 2, in one form for both protocols, and which settings validation chooses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labkit.episodes.sampler import classes_of_episodes
from labkit.evaluation import intervals

END_TO_END = ("cpu_seconds", "peak_bytes", "test_seconds")  # measured in that protocol alone
KEPT = (*END_TO_END, "validation", "novel", "correct", "weights", "steps", "seconds", "threads", "versions", "diverged")


@dataclass(frozen=True)
class Run:
    """One training of a table, in either protocol, and what came of it.

    Attributes:
        system: of Table 1, or the part that Table 2 ablates; of one's own method, its name.
        name: of the setting of a system, or of the cell.
        shot, seed: of the training and of the test.
        backbone: digest of the weights that made the maps; "" end to end.
        options: of the method, as it was built; end to end the name tells them.
        validation: accuracy on validation classes in percent, of the best step.
        tested_on: the data set whose novel classes are looked at, None for its own.
        novel: of `Result.summary`: accuracy, ci95 (over episodes), class_interval, and where; empty if not looked at.
        correct: right answers of every test episode, in one string.
        weights: how many numbers the head has, those of a classifier of base classes included.
        steps: that it was trained for; 0 where it has nothing that its score would read.
        seconds, cpu_seconds: of the training, None where it was resumed or, on one backbone, not measured.
        peak_bytes: of memory that training took, None as these.
        test_seconds: of a test episode from images to scores, None on one backbone.
        command: that makes it again, without what is the machine's own.
        protocol: ``"on one backbone"`` or ``"end to end"``.
        diverged: when the loss was not finite any more, if so.
        commit: of the code, where it is known.
    """

    dataset: str
    system: str
    name: str
    shot: int
    seed: int
    backbone: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    validation: float = float("nan")
    tested_on: str | None = None
    novel: dict[str, Any] = field(default_factory=dict)
    correct: str = ""
    weights: int = 0
    steps: int = 0
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_bytes: int | None = None
    test_seconds: float | None = None
    threads: int = 1
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    protocol: Literal["on one backbone", "end to end"] = "on one backbone"
    diverged: str = ""
    commit: str | None = None

    @property
    def accuracy(self) -> float:
        """Accuracy on novel classes in percent; NaN where it was not measured."""
        return float(self.novel.get("accuracy", np.nan))

    @property
    def per_episode(self) -> NDArray[np.float64]:
        """Accuracy of every test episode in percent."""
        right = np.array(self.correct.split(), float)
        return 100 * right / (self.novel["way"] * self.novel["query"]) if len(right) else right

    @property
    def started(self) -> bool:
        """Whether training left the plateau at which all classes score alike: five points above chance on validation
        classes. Of a run that was not tested it is not told, and False."""
        return bool(self.novel) and self.validation > 100 / int(self.novel["way"]) + 5

    def to_json(self) -> dict[str, Any]:
        """A run on one backbone in JSON types; a training that diverged has None as its validation accuracy."""
        plain = {name: value for name, value in asdict(self).items() if name not in END_TO_END}
        return plain | {"validation": None if np.isnan(self.validation) else self.validation}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Run:
        """The run that `to_json` wrote."""
        return cls(**row | {"validation": float("nan") if row["validation"] is None else row["validation"]})

    @classmethod
    def of_cell(cls, row: dict[str, Any], system: str, dataset: str) -> Run:
        """The run of a row that `labkit.studies.tables.train_cells.run_cell` gives."""
        kept = {name: row[name] for name in KEPT if name in row}
        return cls(dataset, system, row["cell"], row["shot"], row["seed"], protocol="end to end", **kept)


def best_on_validation(runs: Iterable[Run], names: Sequence[str], shot: int) -> str | None:
    """The setting that is best on validation classes at seed 0, of those named; None where none is trained."""
    first = {run.name: run.validation for run in runs if (run.shot, run.seed) == (shot, 0) and run.name in names}
    reached = {name: first[name] for name in names if np.isfinite(first.get(name, np.nan))}
    return max(reached, key=lambda name: reached[name], default=None)


def mean_of_seeds(runs: Sequence[Run]) -> NDArray[np.float64] | None:
    """Accuracy of every test episode in percent, the mean over runs; None where single episodes were not kept."""
    return np.mean([run.per_episode for run in runs], axis=0) if runs and all(run.correct for run in runs) else None


def over_classes(values: NDArray[np.float64], novel: dict[str, Any]) -> float:
    """`intervals.over_classes` of values of test episodes, whose classes follow from what `Result.summary` tells.

    NaN where it does not tell how many classes there are, as before this was recorded.
    """
    if "classes" not in novel:
        return float("nan")
    classes = classes_of_episodes(novel["classes"], novel["way"], len(values), novel["seed"])
    return intervals.over_classes(values, classes, novel["classes"])
