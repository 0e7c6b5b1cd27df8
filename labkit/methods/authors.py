"""How a method's authors trained it, as plain data: one value of one form in the file of every method.

`labkit.training.authors` makes phases of it, which the loop runs. Methods know nothing of training, so a phase is here
a mapping of the fields of `labkit.training.phases.Phase`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AuthorsTraining:
    """One training of the authors', on miniImageNet where nothing else is said.

    Attributes:
        phases: fields of every phase, one after another.
        options: of the method, where the authors' differ from its defaults, or a phase needs them.
        filled_in: what is not known of their training and is a common choice here; empty where all is known.
    """

    phases: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    filled_in: str = ""


# By the number of shots in the test.
Trainings = Mapping[int, AuthorsTraining]

# Ordinary classification of the base pictures, 30 passes over miniImageNet's 38,400: where authors pre-train a backbone
# and it is not known how.
CLASSIFICATION: Mapping[str, Any] = {
    "name": "pre-training",
    "batch": "pictures",
    "size": 128,
    "steps": 9000,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "warmup": 300,
    "validate_every": 900,
    "selection": "nearest mean",
}


def stairs(fields: Mapping[str, Any], *steps_and_rates: tuple[int, float]) -> tuple[dict[str, Any], ...]:
    """A phase for every rate of a schedule whose rates fall by no common factor: (steps, rate), ..."""
    return tuple(
        {**fields, "schedule": "constant", "steps": steps, "learning_rate": rate} for steps, rate in steps_and_rates
    )
