"""The trainings of methods' authors as phases, and as much of one as there is time for."""

from collections.abc import Iterable
from dataclasses import replace

from labkit.common import checks
from labkit.methods.authors import AuthorsTraining
from labkit.models.registry import METHODS
from labkit.training.phases import Phase


def authors_training(method: str, shot: int) -> AuthorsTraining:
    """How the authors of a method trained it for tests of so many shots.

    Raises:
        ValueError: it is not known, or not for this number of shots.
    """
    known = METHODS[method].authors_training
    if shot not in known:
        raise ValueError(f"how the authors of {method} trained for {shot} shots is not known; known is {sorted(known)}")
    return known[shot]


def authors_phases(method: str, shot: int) -> tuple[Phase, ...]:
    """The phases of `authors_training`."""
    return tuple(Phase(**fields) for fields in authors_training(method, shot).phases)


def shortened(phases: Iterable[Phase], share: float) -> tuple[Phase, ...]:
    """The same phases with `share` of their steps, at least one each; warm-up and milestones move along.

    Validation comes at the half and at the end of every phase, however long it is.
    """
    checks.finite("share", share, above=0)
    found = []
    for phase in phases:
        steps = max(1, round(share * phase.steps))
        milestones = sorted({round(share * at) for at in phase.milestones} - {0})
        found.append(
            replace(
                phase,
                steps=steps,
                warmup=round(share * phase.warmup),
                milestones=tuple(milestones),
                validate_every=-(-steps // 2),
            )
        )
    return tuple(found)
