"""Benchmarks report medians against a form that was measured beside, and memory that only the work took."""

import torch

from labkit.common import timing


def test_ratios_are_of_medians() -> None:
    assert timing.ratios({"literal": [8.0, 9.0, 100.0], "fast": [3.0, 1.0, 3.0]}) == {"fast": 3.0}


def test_peak_memory_is_that_of_the_work() -> None:
    torch.ones(2**27).sum()  # 512 MiB, freed before
    used = timing.peak_bytes(lambda: torch.ones(2**25).sum(), "cpu")  # 128 MiB
    assert 2**26 < used < 2**28  # far bounds: the system counts pages, also those of other threads


def test_forms_take_turns_after_a_call_that_does_not_count() -> None:
    calls: list[str] = []
    times = timing.alternate({"slow": lambda: calls.append("slow"), "fast": lambda: calls.append("fast")}, 2, "cpu")
    assert calls == ["slow", "fast"] * 3
    assert {name: len(values) for name, values in times.items()} == {"slow": 2, "fast": 2}
