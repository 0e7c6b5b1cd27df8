"""The trainings of methods' authors as phases, and as much of one as there is time for."""

from collections.abc import Iterable
from dataclasses import replace

from labkit.common import checks
from labkit.training.phases import Phase


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
