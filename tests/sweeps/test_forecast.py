"""Forecasts: sums that can be done by hand."""

import pytest

from labkit.sweeps.forecast import Cost, duration, forecast


def test_the_longest_run_and_the_devices_bound_the_time() -> None:
    runs = [Cost(seconds, 0, 0, "a guess") for seconds in (5 * 3600, 3600, 3600)]
    assert "about 7.0 hours" in forecast(runs, 1)
    assert "about 5.0 hours" in forecast(runs, 64)


def test_what_a_sweep_costs_by_its_finished_runs() -> None:
    records = [{"seconds": 60.0, "memory": 2**30, "disk": 10**6}, {"seconds": 180.0, "memory": 2**29, "disk": 0}]
    cost = Cost.of_records(records)
    assert cost == Cost(120, 2**30, 10**6, "the 2 that are finished")
    assert forecast([cost] * 4, 2) == (
        "4 runs, 2 at a time: about 4.0 minutes (2.0 minutes each), up to 2.0 GiB of memory, 4 MB of disk, "
        "by the 2 that are finished."
    )
    assert Cost.of_records([]) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 seconds"), (89, "89 seconds"), (5400, "1.5 hours"), (8e6, "93 days")]
)
def test_durations_in_the_unit_that_suits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
