"""What is left of a sweep, forecast from its finished runs: time, memory, disk."""

from collections.abc import Sequence
from typing import Any


def forecast(finished: Sequence[dict[str, Any]], left: int, at_once: int) -> str:
    """One line that says what `left` more runs will take, `at_once` at a time, by the records of those that are done.

    They are taken to last as long as the others on average, with the largest memory and disk that any had.
    """
    if not finished:
        return f"{left} runs, {at_once} at a time; how long they take is known when the first has finished."
    each = sum(record["seconds"] for record in finished) / len(finished)
    memory, disk = (max(record[name] for record in finished) for name in ("memory", "disk"))
    together = min(at_once, left)
    return (
        f"{left} runs, {at_once} at a time: about {duration(left / together * each)} ({duration(each)} each), up to "
        f"{together * memory / 2**30:.1f} GiB of memory, {left * disk / 1e6:.0f} MB of disk, by the {len(finished)} "
        "that are finished."
    )


def duration(seconds: float) -> str:
    """A length of time in days, hours, minutes or seconds."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.{1 if seconds < 20 * length else 0}f} {unit}"
    return f"{seconds:.{1 if seconds < 10 else 0}f} seconds"
