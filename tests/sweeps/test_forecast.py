"""Forecasts: sums that can be done by hand."""

import pytest

from labkit.sweeps.forecast import duration, forecast

DONE = [{"seconds": 60.0, "memory": 2**30, "disk": 10**6}, {"seconds": 180.0, "memory": 2**29, "disk": 0}]


def test_what_is_left_of_a_sweep_by_its_finished_runs() -> None:
    assert forecast(DONE, 4, 2) == (
        "4 runs, 2 at a time: about 4.0 minutes (2.0 minutes each), up to 2.0 GiB of memory, 4 MB of disk, "
        "by the 2 that are finished."
    )
    assert "about 2.0 minutes (2.0 minutes each), up to 3.0 GiB" in forecast(DONE, 3, 64)  # no sooner than one run
    assert "known when the first has finished" in forecast([], 3, 2)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 seconds"), (89, "89 seconds"), (5400, "1.5 hours"), (8e6, "93 days")]
)
def test_durations_in_the_unit_that_suits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
