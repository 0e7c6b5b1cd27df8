"""Forecasts of what runs will cost: time, memory, disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Of one run.

    Attributes:
        seconds: on one device.
        memory: bytes, at the highest.
        disk: bytes left behind.
        source: where the three come from: what was measured, or what is assumed.
    """

    seconds: float
    memory: float
    disk: float
    source: str

    @staticmethod
    def of_records(records: Sequence[dict[str, Any]]) -> Cost | None:
        """The mean time, and the largest memory and disk, of finished runs of a sweep; None without any."""
        if not records:
            return None
        seconds = sum(r["seconds"] for r in records) / len(records)
        memory, disk = (max(r[k] for r in records) for k in ("memory", "disk"))
        return Cost(seconds, memory, disk, f"the {len(records)} that are finished")


def forecast(costs: Sequence[Cost], at_once: int) -> str:
    """One line that says what runs of these costs will take, `at_once` at a time."""
    each = sum(c.seconds for c in costs) / len(costs)
    memory = sum(sorted((c.memory for c in costs), reverse=True)[:at_once])
    sources = "; ".join(dict.fromkeys(c.source for c in costs))
    disk = sum(c.disk for c in costs)
    wall_time = max(len(costs) / min(at_once, len(costs)) * each, *(c.seconds for c in costs))
    several = f", {at_once} at a time" if len(costs) > 1 else ""
    return (
        f"{len(costs)} run{'s' if several else ''}{several}: about "
        f"{duration(wall_time)}{f' ({duration(each)} each)' if several else ''}, "
        f"up to {memory / 2**30:.1f} GiB of memory, {disk / 1e6:.0f} MB of disk, by {sources}."
    )


def duration(seconds: float) -> str:
    """A length of time in days, hours, minutes or seconds."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.{1 if seconds < 20 * length else 0}f} {unit}"
    return f"{seconds:.{1 if seconds < 10 else 0}f} seconds"
